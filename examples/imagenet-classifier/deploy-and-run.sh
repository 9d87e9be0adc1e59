#!/usr/bin/env bash
# Classifies pictures with a ResNet50, file by file and as whole mini-batches; checks every result.
#
#   ./deploy-and-run.sh                          Keras on TensorFlow
#   KERAS_BACKEND=torch ./deploy-and-run.sh      the same scripts on PyTorch; or jax
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
export KERAS_BACKEND=${KERAS_BACKEND:-tensorflow}
case $KERAS_BACKEND in
    tensorflow) conda_file=environment/conda.yml ;;
    torch | jax) conda_file=environment/conda-$KERAS_BACKEND.yml ;;
    *) echo "KERAS_BACKEND must be tensorflow, torch or jax" >&2; exit 2 ;;
esac
if [ -x ../../.venv/bin/batchpoint ]; then PATH=$(cd ../../.venv/bin && pwd):$PATH; fi
command -v batchpoint >/dev/null || { echo "Run 'make setup' first." >&2; exit 2; }

# State and results of this example stay in its folder, away from your own.
export BATCHPOINT_HOME="${BATCHPOINT_HOME:-$PWD/.batchpoint}"

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() { printf '\033[1m$ %s\033[0m\n' "$*" >&2; "$@"; }

clean_up() {
    say "Cleaning up"
    run batchpoint batch-endpoint delete --name imagenet-classifier --yes --force || true
    run batchpoint down
}

# score_and_check DEPLOYMENT MORE…: a job over data/, its results downloaded and compared.
score_and_check() {
    job=$(run batchpoint batch-endpoint invoke --name imagenet-classifier --input data \
        --deployment-name "$1" --query name -o tsv)
    run batchpoint job stream "$job"
    rm -rf results
    run batchpoint job download "$job" --download-path results
    run python check_result.py results/predictions.csv
}

say "Making pictures and a network (Keras on $KERAS_BACKEND)"
run python ../in_environment.py "$conda_file" make_images_and_model.py

trap clean_up EXIT

say "An endpoint with two deployments of the same network"
run batchpoint batch-endpoint create --file endpoint.yml
for way in file batch; do
    run batchpoint batch-deployment create --file "deployment-by-$way.yml" --set-default \
        --set "environment.conda_file=$conda_file" --set "environment.name=keras-on-$KERAS_BACKEND" \
        --set "settings.environment_variables.KERAS_BACKEND=$KERAS_BACKEND"
done

say "Picture by picture"
score_and_check resnet50-by-file

say "Whole mini-batches as one tensor"
score_and_check resnet50-by-batch

say "A file that is no picture fails alone: exit code 3, and its neighbours are scored"
rm -rf results && mkdir -p results/broken
cp data/dots-0?.jpg results/broken && echo "no picture" > results/broken/dots-03.jpg
code=0
run batchpoint batch-endpoint invoke --name imagenet-classifier --input results/broken \
    --output-path results/scored --wait || code=$?
[ "$code" = 3 ] && [ "$(grep -c dots results/scored/predictions.csv)" -ge 5 ]
grep dots-03.jpg results/scored/_failed_items.jsonl

say "All results are as expected"
