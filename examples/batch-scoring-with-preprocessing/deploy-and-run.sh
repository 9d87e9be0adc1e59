#!/usr/bin/env bash
# Puts preparing and scoring behind an endpoint, with what a training pipeline has registered; then
# makes a deployment of a job, and one that scores in mini-batches. Checks every score.
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
    run batchpoint batch-endpoint delete --name uci-classifier-score --yes --force || true
    run batchpoint down
}

# invoke [MORE ARGUMENTS …]: prints the name of the new job.
invoke() {
    run batchpoint batch-endpoint invoke --name uci-classifier-score "$@" --query name -o tsv
}

# check JOB MODE: follows a job to its end, downloads its scores and compares them.
check() {
    run batchpoint job stream --name "$1"
    rm -rf results/scores
    run batchpoint job download --name "$1" --output-name scores --download-path results/scores
    run python check_scores.py "$2" results/scores
}

training=../training-with-components
rm -rf results

say "Making patients, and training and scoring by hand: what has to come out"
run python $training/make_data.py --folder .
run python by_hand.py

trap clean_up EXIT

say "Training, as in the other example: its job registers the model and what preparing has learnt"
run batchpoint environment create --file $training/environment/xgboost-sklearn.yml -o none
job=$(run batchpoint job create --file $training/pipeline-job.yml \
    --set "inputs.input_data.path=$PWD/data/train" --query name -o tsv)
run batchpoint job stream --name "$job"

say "Components get names; the one that prepares is the one that training uses"
run batchpoint component create --file $training/components/prepare/prepare.yml -o none
run batchpoint component create --file components/score/score.yml -o none
run batchpoint component list

say "The graph is tried as a job"
tried=$(run batchpoint job create --file pipeline-job.yml \
    --set inputs.input_data.path=data/unlabeled --query name -o tsv)
check "$tried" append

say "An endpoint, and the graph behind it"
run batchpoint batch-endpoint create --file endpoint.yml
run batchpoint batch-deployment create --file deployment.yml --set-default
job=$(invoke --file inputs.yml)
check "$job" append
run batchpoint job show --name "$job"
run batchpoint job list --parent-job-name "$job"

say "Another mode, and a place for the scores that the caller names"
job=$(invoke --file inputs-replace.yml)
check "$job" replace
run python check_scores.py replace results/replaced

say "A deployment made of the job from before; its literals are the defaults"
run batchpoint batch-deployment create --file deployment-from-job.yml \
    --set "job_definition=azureml:$tried" -o none
job=$(invoke --deployment-name uci-classifier-prepros-jobs --file inputs.yml)
check "$job" append

say "Scoring in mini-batches becomes the default; the caller's command is the one from before"
run batchpoint batch-deployment create --file deployment-parallel.yml --set-default -o none
job=$(invoke --file inputs.yml)
check "$job" append

say "All results are as expected"
