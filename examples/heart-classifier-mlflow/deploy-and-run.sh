#!/usr/bin/env bash
# Trains two heart classifiers if need be, scores data/ with the first and looks at the result; then
# names the data, puts the second classifier beside the first and lets it take over.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
if [ -x ../../.venv/bin/batchpoint ]; then PATH=$(cd ../../.venv/bin && pwd):$PATH; fi
command -v batchpoint >/dev/null || { echo "Run 'make setup' first." >&2; exit 2; }

# State and results of this example stay in its folder, away from your own.
export BATCHPOINT_HOME="${BATCHPOINT_HOME:-$PWD/.batchpoint}"

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() { printf '\033[1m$ %s\033[0m\n' "$*" >&2; "$@"; }

# check JOB EXPECTED: downloads a job's predictions and compares them with MLflow's own.
check() {
    rm -rf results
    run batchpoint job download "$1" --download-path results
    cmp results/predictions.csv "expected/$2"
    echo "As expected: byte for byte expected/$2, which MLflow itself wrote"
}

if [ ! -f expected/predictions.csv ]; then
    say "Making data and training two models (scikit-learn with XGBoost, saved by MLflow)"
    run python make_data_and_model.py
fi

say "A model becomes an endpoint, and a folder is scored"
run batchpoint deploy ./model --name heart-classifier
job=$(run batchpoint invoke heart-classifier --input ./data --wait --query name -o tsv)
run batchpoint job head "$job"
check "$job" predictions.csv

say "The data gets a name, for all callers"
run batchpoint data create --file data.yml -o none
job=$(run batchpoint invoke heart-classifier --input azureml:heart-unlabeled@latest --wait \
    --query name -o tsv)
check "$job" predictions.csv

say "A second deployment, tried by its name"
run batchpoint batch-deployment create --file deployment-v2.yml -o none
job=$(run batchpoint invoke heart-classifier --input azureml:heart-unlabeled@latest --wait \
    --deployment-name xgboost-v2 --query name -o tsv)
check "$job" predictions-v2.csv

say "It becomes the default; the caller's command is the one from before"
run batchpoint batch-endpoint update --name heart-classifier \
    --set defaults.deployment_name=xgboost-v2 -o none
job=$(run batchpoint invoke heart-classifier --input azureml:heart-unlabeled@latest --wait \
    --query name -o tsv)
check "$job" predictions-v2.csv

cat <<END

Try next:
  cd $PWD
  export BATCHPOINT_HOME=$BATCHPOINT_HOME PATH=$(dirname "$(command -v batchpoint)"):\$PATH
  batchpoint job show $job
  batchpoint job list --endpoint-name heart-classifier
  batchpoint invoke heart-classifier --input YOUR_FOLDER --wait
  batchpoint batch-endpoint delete --name heart-classifier --yes
  batchpoint down
END
