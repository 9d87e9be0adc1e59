#!/usr/bin/env bash
# Summarizes the texts of some CSV files with BART, and checks each summary.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
if [ -x ../../.venv/bin/batchpoint ]; then PATH=$(cd ../../.venv/bin && pwd):$PATH; fi
command -v batchpoint >/dev/null || { echo "Run 'make setup' first." >&2; exit 2; }

# State and results of this example stay in its folder, away from your own.
export BATCHPOINT_HOME="${BATCHPOINT_HOME:-$PWD/.batchpoint}"

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() { printf '\033[1m$ %s\033[0m\n' "$*" >&2; "$@"; }

clean_up() {
    say "Cleaning up"
    run batchpoint batch-endpoint delete --name text-summarization --yes --force || true
    run batchpoint down
}

say "Making texts, and a tiny BART with its tokenizer"
run python make_texts.py
run python ../in_environment.py environment/conda.yml make_model.py

trap clean_up EXIT

say "An endpoint and its deployment"
run batchpoint batch-endpoint create --file endpoint.yml
run batchpoint batch-deployment create --file deployment.yml --set-default

say "Summaries"
job=$(run batchpoint batch-endpoint invoke --name text-summarization --input data \
    --query name -o tsv)
run batchpoint job stream "$job"
rm -rf results
run batchpoint job download "$job" --download-path results
run python check_result.py results/summaries.csv

say "A column that is not there: the job fails and says why"
if said=$(run batchpoint batch-endpoint invoke --name text-summarization --input data \
    --set environment_variables.TEXT_COLUMN=body --wait 2>&1); then
    echo "the job should have failed" >&2
    exit 1
fi
echo "$said"
grep -q "has no column 'body' (TEXT_COLUMN); it has: id, title, text" <<<"$said"

say "All results are as expected"
