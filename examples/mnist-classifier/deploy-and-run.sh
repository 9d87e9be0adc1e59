#!/usr/bin/env bash
# One endpoint, two deployments: scores digits with the first, tries the second by its name, makes it
# the default and deletes the first, while callers go on as before. Checks every result.
#
#   ./deploy-and-run.sh                  PyTorch, then Keras on TensorFlow
#   ./deploy-and-run.sh sklearn forest   the same with scikit-learn only: seconds, small downloads
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
first=${1:-torch} second=${2:-keras}
if [ -x ../../.venv/bin/batchpoint ]; then PATH=$(cd ../../.venv/bin && pwd):$PATH; fi
command -v batchpoint >/dev/null || { echo "Run 'make setup' first." >&2; exit 2; }

# State and results of this example stay in its folder, away from your own.
export BATCHPOINT_HOME="${BATCHPOINT_HOME:-$PWD/.batchpoint}"

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() { printf '\033[1m$ %s\033[0m\n' "$*" >&2; "$@"; }

clean_up() {
    say "Cleaning up"
    run batchpoint batch-endpoint delete --name mnist-classifier --yes --force || true
    run batchpoint down
}

train() {
    case $1 in
        torch | keras)
            run python ../in_environment.py "deployment-$1/environment/conda.yml" "deployment-$1/train.py"
            ;;
        sklearn | forest) run python deployment-sklearn/train.py "mnist-$1" ;;
        *) echo "There is no deployment-$1 here: torch, keras, sklearn or forest" >&2; exit 2 ;;
    esac
}

# What a caller types, always the same but for a deployment's name while it is tried. Compares the
# job's predictions with the expected ones: call_and_check DEPLOYMENT [MORE ARGUMENTS …].
call_and_check() {
    local deployment=$1 job answered
    shift
    read -r job answered < <(run batchpoint batch-endpoint invoke --name mnist-classifier \
        --input data --wait "$@" --query "[[name, spec.deployment_name]]" -o tsv)
    [ "$answered" = "$deployment" ] || { echo "$answered answered, not $deployment" >&2; exit 1; }
    rm -rf results
    run batchpoint job download "$job" --download-path results
    run python check_result.py "$deployment" results/predictions.csv
}

say "Making pictures, and training both models"
run python make_digits.py
train "$first"
train "$second"

trap clean_up EXIT

say "An endpoint, and its first deployment"
run batchpoint batch-endpoint create --file endpoint.yml
run batchpoint batch-deployment create --file "deployment-$first/deployment.yml" --set-default

say "A caller scores a folder"
call_and_check "mnist-$first"

say "A second deployment, tried by its name; callers still get the first"
run batchpoint batch-deployment create --file "deployment-$second/deployment.yml"
call_and_check "mnist-$second" --deployment-name "mnist-$second"
call_and_check "mnist-$first"

say "The second becomes the default; the caller's command is the same"
run batchpoint batch-endpoint update --name mnist-classifier \
    --set "defaults.deployment_name=mnist-$second"
call_and_check "mnist-$second"

say "The first is deleted; the caller notices nothing"
run batchpoint batch-deployment delete --name "mnist-$first" --endpoint-name mnist-classifier --yes
run batchpoint batch-deployment list --endpoint-name mnist-classifier --query "[].name" -o tsv
call_and_check "mnist-$second"

say "All results are as expected"
