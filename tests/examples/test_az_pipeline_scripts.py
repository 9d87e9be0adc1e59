"""Scripts of az commands for pipelines run as they are, with the spellings that such files have.

Small graphs whose scripts need only the standard library stand for big ones; what counts are the
commands, and the many ways in which outputs, optional sections and references are written.
"""

from pathlib import Path
from textwrap import dedent

import pytest

from tests.examples.clone import heavy, run_to_end, user_environ

FILES = {
    "prepare/prepare.yml": """
        $schema: https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json
        name: heart_prepare
        display_name: Heart prepare
        type: command
        description: |-
          **Prepares**
        inputs:
          data:
            type: uri_folder
          transformations:
            type: custom_model
            optional: true
          categorical_encoding:
            type: string
            optional: true
            default: ordinal
        outputs:
          prepared_data:
            type: uri_folder
          transformations_output:
            type: custom_model
        code: src
        command: >-
          python say.py
          --data ${{inputs.data}}
          $[[--transformations ${{inputs.transformations}}]]
          $[[--categorical_encoding ${{inputs.categorical_encoding}}]]
          --out ${{outputs.prepared_data}}
          --learnt ${{outputs.transformations_output}}
        """,
    "train/train.yml": """
        $schema: https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json
        name: heart_train
        version: 1
        type: command
        inputs:
          data:
            type: uri_folder
          target_column:
            type: string
          register_best_model:
            type: boolean
          registered_model_name:
            type: string
            optional: true
          eval_size:
            type: number
        outputs:
          model:
            type: mlflow_model
          evaluation_results:
            type: uri_folder
        code: src
        command: >-
          python say.py
          --data ${{inputs.data}}
          --target_column ${{inputs.target_column}}
          --register_best_model ${{inputs.register_best_model}}
          $[[inputs.registered_model_name]]
          --eval_size ${{inputs.eval_size}}
          --model ${{outputs.model}}
          --out ${{outputs.evaluation_results}}
        """,
    "ordinal/pipeline.yml": """
        $schema: https://azuremlschemas.azureedge.net/latest/pipelineComponent.schema.json
        type: pipeline

        name: heart-train-pipeline
        display_name: heart-train

        inputs:
          input_data:
            type: uri_folder

        outputs:
          model:
            type: mlflow_model
            mode: upload
          evaluation_results:
            type: uri_folder
            mode: upload
          prepare_transformations:
            type: uri_folder
            mode: upload

        jobs:
          preprocess_job:
            type: command
            component: ../prepare/prepare.yml
            inputs:
              data: ${{parent.inputs.input_data}}
              categorical_encoding: ordinal
            outputs:
              prepared_data:
              transformations_output: ${{parent.outputs.prepare_transformations}}

          train_job:
            type: command
            component: ../train/train.yml
            inputs:
              data: ${{parent.jobs.preprocess_job.outputs.prepared_data}}
              target_column: target
              register_best_model: false
              eval_size: 0.3
            outputs:
              model:
                mode: upload
                type: mlflow_model
                path: ${{parent.outputs.model}}
              evaluation_results:
                mode: upload
                type: uri_folder
                path: ${{parent.outputs.evaluation_results}}
        """,
    "ordinal/pipeline-job.yml": """
        $schema: https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json
        type: pipeline

        experiment_name: heart-train-pipeline
        display_name: heart-train-job

        compute: batch-cluster
        component: pipeline.yml
        inputs:
          input_data:
            type: uri_folder
        outputs:
          model:
            type: mlflow_model
            mode: upload
          evaluation_results:
            type: uri_folder
            mode: upload
          prepare_transformations:
            mode: upload
        """,
    "ordinal/deployment.yml": """
        $schema: https://azuremlschemas.azureedge.net/latest/batchDeployment.schema.json
        name: heart-train-xgb
        endpoint_name: heart-train
        type: pipeline
        component: pipeline.yml
        settings:
            continue_on_step_failure: false
            default_compute: batch-cluster
        """,
    "score/pipeline.yml": """
        $schema: https://azuremlschemas.azureedge.net/latest/pipelineComponent.schema.json
        type: pipeline

        name: batch_scoring_heart

        inputs:
          input_data:
            type: uri_folder
          score_mode:
            type: string
            default: append

        outputs:
          scores:
            type: uri_folder
            mode: upload

        jobs:
          preprocess_job:
            type: command
            component: azureml:heart_prepare@latest
            inputs:
              data: ${{parent.inputs.input_data}}
              transformations:
                path: azureml:heart-transforms@latest
                type: custom_model
            outputs:
              prepared_data:

          score_job:
            type: command
            component:
              code: ../prepare/src
              inputs:
                data:
                  type: uri_folder
                score_mode:
                  type: string
              outputs:
                scores:
                  type: uri_folder
              command: >-
                python say.py --data ${{inputs.data}} --mode ${{inputs.score_mode}}
                --out ${{outputs.scores}}
            inputs:
              data: ${{parent.jobs.preprocess_job.outputs.prepared_data}}
              score_mode: ${{parent.inputs.score_mode}}
            outputs:
              scores:
                mode: upload
                path: ${{parent.outputs.scores}}
        """,
    "score/pipeline-job.yml": """
        $schema: https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json
        type: pipeline
        compute: batch-cluster
        component: pipeline.yml
        inputs:
          input_data:
            type: uri_folder
          score_mode: append
        outputs:
          scores:
            mode: upload
        """,
    "score/deployment-from-job.yml": """
        $schema: http://azureml/sdk-2-0/BatchDeployment.json
        name: heart-score-jobs
        endpoint_name: heart-train
        type: pipeline
        job_definition: azureml:job_name_placeholder
        settings:
            continue_on_step_failure: false
            default_compute: batch-cluster
        """,
    "inputs-train.yml": """
        inputs:
          input_data:
            type: uri_folder
            path: azureml:heart-train@latest
        """,
    "inputs-score.yml": """
        inputs:
          input_data:
            type: uri_folder
            path: data
          score_mode:
            type: string
            default: replace
        outputs:
          scores:
            type: uri_folder
            mode: upload
        """,
    "endpoint.yml": """
        $schema: https://azuremlschemas.azureedge.net/latest/batchEndpoint.schema.json
        name: heart-train
        description: An endpoint
        auth_mode: aad_token
        """,
}
# Writes what it was told into each folder that it was given to write to.
SAY = """
import pathlib
import sys

line = sys.argv[1:]
given = {key: value for key, value in zip(line, line[1:]) if key.startswith("--")}
told = [word for word in line if "/" not in word]
assert list(pathlib.Path(given["--data"]).iterdir()), "no data"
for name in ("--out", "--learnt", "--model"):
    if name in given:
        (pathlib.Path(given[name]) / "told.txt").write_text(" ".join(told))
print(*told)
"""
SCRIPT = """
az account set --subscription S
az configure --defaults workspace=W group=G location=L
ENDPOINT_NAME="heart-train"
az ml data create --name heart-train --type uri_folder --path data
az ml compute create -n batch-cluster --type amlcompute --min-instances 0 --max-instances 5
JOB_NAME=$(az ml job create -f ordinal/pipeline-job.yml \
    --set inputs.input_data.path=azureml:heart-train@latest --query name -o tsv)
az ml job stream -n $JOB_NAME
az ml job download --name $JOB_NAME --output-name evaluation_results --download-path tried

az ml batch-endpoint create --name $ENDPOINT_NAME -f endpoint.yml
az ml batch-deployment create --endpoint $ENDPOINT_NAME -f ordinal/deployment.yml --set-default
JOB_NAME=$(az ml batch-endpoint invoke -n $ENDPOINT_NAME --f inputs-train.yml --query name -o tsv)
az ml job stream -n $JOB_NAME
az ml job list --parent-job-name $JOB_NAME --query "[].name" -o tsv > children
az ml job download --name $JOB_NAME --output-name prepare_transformations
az ml job download --name $JOB_NAME --output-name model

az ml model create --name heart-transforms --type custom_model --path tried
az ml component create -f prepare/prepare.yml
JOB_NAME=$(az ml job create -f score/pipeline-job.yml --set inputs.input_data.path=data \
    --query name -o tsv)
az ml job stream -n $JOB_NAME
az ml batch-deployment create --endpoint $ENDPOINT_NAME --set job_definition=azureml:$JOB_NAME \
    -f score/deployment-from-job.yml
JOB_NAME=$(az ml batch-endpoint invoke -n $ENDPOINT_NAME -d heart-score-jobs --f inputs-score.yml \
    --query name -o tsv)
az ml job stream -n $JOB_NAME
az ml job download --name $JOB_NAME --output-name scores --download-path scored
az ml batch-endpoint delete -n $ENDPOINT_NAME --yes
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Give a folder with all files, as somebody has who came from elsewhere."""
    folder = tmp_path / "place"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip(), encoding="utf-8")
    for name in ("prepare", "train"):
        (folder / name / "src").mkdir()
        (folder / name / "src" / "say.py").write_text(SAY)
    (folder / "data").mkdir()
    (folder / "data" / "heart.csv").write_text("age\n50\n")
    return folder


def told(folder: Path) -> str:
    (found,) = folder.rglob("told.txt")
    return found.read_text()


@heavy
def test_a_script_of_az_commands_trains_and_scores(place: Path, tmp_path: Path) -> None:
    environ = user_environ(tmp_path)
    shim = tmp_path / "shim"
    environ["PATH"] = f"{shim}:{environ['PATH']}"
    try:
        script = f"set -euo pipefail\nbatchpoint az-shim {shim}\n{SCRIPT}"
        done = run_to_end(place, environ, "bash", "-x", "-c", script)
    finally:
        run_to_end(place, environ, "batchpoint", "down")
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    assert told(place / "tried") == (
        "--data --target_column target --register_best_model False "
        "inputs.registered_model_name --eval_size 0.3 --model --out"
    )
    children = (place / "children").read_text().split()
    assert [name.rpartition("-")[2] for name in children] == ["preprocess_job", "train_job"]
    downloaded = [
        path for path in place.rglob("told.txt") if "prepare_transformations" in str(path)
    ]
    assert [path.read_text() for path in downloaded] == [
        "--data --categorical_encoding ordinal --out --learnt"
    ]
    assert told(place / "scored") == "--data --mode replace --out"
