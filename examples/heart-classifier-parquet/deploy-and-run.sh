#!/usr/bin/env bash
# Scores data/*.csv with a script that writes a Parquet file for each of them, and checks those.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
if [ -x ../../.venv/bin/batchpoint ]; then PATH=$(cd ../../.venv/bin && pwd):$PATH; fi
command -v batchpoint >/dev/null || { echo "Run 'make setup' first." >&2; exit 2; }

# State and results of this example stay in its folder, away from your own.
export BATCHPOINT_HOME="${BATCHPOINT_HOME:-$PWD/.batchpoint}"

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() { printf '\033[1m$ %s\033[0m\n' "$*" >&2; "$@"; }

if [ ! -f expected/predictions.csv ]; then
    say "Making data and training the model of the first example"
    run python ../heart-classifier-mlflow/make_data_and_model.py --folder .
fi

clean_up() {
    say "Cleaning up"
    run batchpoint batch-endpoint delete --name heart-classifier-parquet --yes --force || true
    run batchpoint down
}
trap clean_up EXIT

say "An endpoint, and a deployment with a scoring script"
run batchpoint batch-endpoint create --file endpoint.yml
run batchpoint batch-deployment create --file deployment.yml --set-default

say "Scoring the folder"
job=$(run batchpoint batch-endpoint invoke --name heart-classifier-parquet --input data \
    --query name -o tsv)
run batchpoint job stream "$job"

say "What came out"
rm -rf results
run batchpoint job download "$job" --download-path results
run python check_results.py results
