#!/usr/bin/env bash
# Puts a graph of one step behind an endpoint and invokes it; then runs the graph as a job, and makes
# a deployment of that job.
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
    run batchpoint batch-endpoint delete --name hello-batch --yes --force || true
    run batchpoint down
}
trap clean_up EXIT

# expect TEXT COMMAND…: runs a command, shows what it says, and wants the text in it.
expect() {
    local text=$1 said
    shift
    said=$(run "$@" 2>&1)
    echo "$said"
    grep -F "$text" <<<"$said" >/dev/null
}
greeting="Hello from a pipeline component!"

say "The component gets a name"
run batchpoint component create --file hello-component/hello.yml

say "An endpoint, and the component behind it"
run batchpoint batch-endpoint create --file endpoint.yml
run batchpoint batch-deployment create --file deployment.yml --set-default

say "It takes no input"
job=$(run batchpoint batch-endpoint invoke --name hello-batch --query name -o tsv)
expect "$greeting" batchpoint job stream --name "$job"
run batchpoint job show --name "$job"
run batchpoint job list --parent-job-name "$job"

say "Said already: the second job takes over what the first has done"
job=$(run batchpoint batch-endpoint invoke --name hello-batch --wait --query name -o tsv)
expect reused batchpoint job show --name "$job"

say "The same graph as a job"
job=$(run batchpoint job create --file pipeline-job.yml --query name -o tsv)
expect "$greeting" batchpoint job stream --name "$job"

say "And a deployment made of that job"
run batchpoint batch-deployment create --file deployment-from-job.yml \
    --set "job_definition=azureml:$job"
job=$(run batchpoint batch-endpoint invoke --name hello-batch \
    --deployment-name hello-batch-from-job --query name -o tsv)
expect "$greeting" batchpoint job stream --name "$job"

say "All results are as expected"
