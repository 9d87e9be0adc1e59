#!/usr/bin/env bash
# Puts a training pipeline behind an endpoint: tried as a job first, then deployed with one encoding of
# categories, then with another, which takes over. Checks every output.
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
    run batchpoint batch-endpoint delete --name uci-classifier-train --yes --force || true
    run batchpoint down
}

# check JOB ENCODING: downloads the outputs of a job, one by one, and compares them.
check() {
    local output
    rm -rf results
    for output in model evaluation_results transformations; do
        run batchpoint job download --name "$1" --output-name "$output" --download-path "results/$output"
    done
    run python check_results.py "$2" results
}

# What a caller types, always the same but for a deployment's name while it is tried:
# call_and_check ENCODING [MORE ARGUMENTS …].
call_and_check() {
    local encoding=$1 job
    shift
    job=$(run batchpoint batch-endpoint invoke --name uci-classifier-train --file inputs.yml "$@" \
        --query name -o tsv)
    run batchpoint job stream --name "$job"
    run batchpoint job show --name "$job"
    check "$job" "$encoding"
}

say "Making patients, and training by hand: what has to come out"
run python make_data.py
run python by_hand.py

trap clean_up EXIT

say "An environment for all steps, and a name for the data"
run batchpoint environment create --file environment/xgboost-sklearn.yml
run batchpoint data create --name heart-classifier-train --type uri_folder --path data/train

say "The graph is tried as a job, which registers the model and what preparing has learnt"
job=$(run batchpoint job create --file pipeline-job.yml \
    --set inputs.input_data.path=azureml:heart-classifier-train@latest --query name -o tsv)
run batchpoint job stream --name "$job"
check "$job" ordinal
run batchpoint model list

say "An endpoint, and the graph behind it"
run batchpoint batch-endpoint create --file endpoint.yml
run batchpoint batch-deployment create --file deployment-ordinal/deployment.yml --set-default

say "The same data, the same steps: their earlier outputs are taken over"
call_and_check ordinal

say "Another encoding, tried by its deployment's name"
run batchpoint batch-deployment create --file deployment-onehot/deployment.yml
call_and_check onehot --deployment-name uci-classifier-train-onehot

say "It becomes the default; the caller's command is the one from before"
run batchpoint batch-endpoint update --name uci-classifier-train \
    --set defaults.deployment_name=uci-classifier-train-onehot
run batchpoint batch-deployment delete --name uci-classifier-train-xgb \
    --endpoint-name uci-classifier-train --yes
call_and_check onehot

say "Patients without a diagnosis: the job fails and says why"
if said=$(run batchpoint batch-endpoint invoke --name uci-classifier-train --input data/unlabeled \
    --wait 2>&1); then
    echo "the job should have failed" >&2
    exit 1
fi
echo "$said"
grep "has no column 'target'" <<<"$said" >/dev/null

say "All results are as expected"
