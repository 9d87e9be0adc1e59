#!/usr/bin/env bash
# Trains the heart classifier if need be, deploys it, scores data/ with it and shows the result.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$(cd "$here/../../.venv/bin" 2>/dev/null && pwd) || { echo "Run 'make setup' first." >&2; exit 2; }
batchpoint=$bin/batchpoint

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# State and results of this example stay in its folder, away from your own.
export BATCHPOINT_HOME="${BATCHPOINT_HOME:-$here/.batchpoint}"
work=${HEART_CLASSIFIER_FOLDER:-$here}   # where model and data are made; the tests set it

if [ ! -f "$work/expected/predictions.csv" ]; then
    say "Making data and training a model (scikit-learn with XGBoost, saved by MLflow)"
    "$bin/python" "$here/make_data_and_model.py" --folder "$work"
fi

say "batchpoint deploy ./model --name heart-classifier"
"$batchpoint" deploy "$work/model" --name heart-classifier

say "batchpoint invoke heart-classifier --input ./data --wait"
job=$("$batchpoint" invoke heart-classifier --input "$work/data" --wait --query name -o tsv)

say "batchpoint job head $job"
"$batchpoint" job head "$job"

results=$("$batchpoint" job show "$job" --query status.output_uri -o tsv)
say "Results: $results"
cat <<END

Try next:
  export BATCHPOINT_HOME=$BATCHPOINT_HOME
  .venv/bin/batchpoint job show $job
  .venv/bin/batchpoint job download $job --download-path ./out
  .venv/bin/batchpoint invoke heart-classifier --input YOUR_FOLDER --wait
  .venv/bin/batchpoint batch-deployment create --file examples/heart-classifier-mlflow/deployment.yml --set-default
  .venv/bin/batchpoint down
END
