"""Examples for the description of the API: bodies that are valid, and the problems of each status.

A test reads every body with the noun it is for.
"""

from __future__ import annotations

from typing import Any

from batchpoint.api.problems import problem_of
from batchpoint.domain.errors import BatchpointError, error_from

_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def _one(summary: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"example": {"summary": summary, "value": value}}


_ENDPOINT = {"name": "heart", "description": "Risk of heart disease", "tags": {"team": "cardio"}}
_DEPLOYMENT = {
    "name": "forest",
    "endpoint_name": "heart",
    "model": "azureml:heart-classifier:1",
    "code_configuration": {"code": "azureml:scoring:1", "scoring_script": "batch_driver.py"},
    "environment": "azureml:sklearn:3",
    "resources": {"instance_count": 2},
    "settings": {
        "mini_batch_size": 10,
        "max_concurrency_per_instance": 2,
        "error_threshold": -1,
        "output_action": "append_row",
        "retry_settings": {"max_retries": 3, "timeout": 300},
    },
}
_MODEL = {
    "name": "heart-classifier",
    "type": "mlflow_model",
    "path": f"upload:{_HASH}/model",
    "tags": {"trained": "2026-01"},
}
_ENVIRONMENT = {"name": "sklearn", "requirements": ["scikit-learn==1.8.*", "pandas"]}
_DATA = {
    "name": "patients",
    "type": "uri_folder",
    "path": "azureml://datastores/lake/paths/patients/2026",
}
_CODE = {"name": "scoring", "path": f"upload:{_HASH}/code"}
_COMPONENT = {
    "name": "train",
    "type": "command",
    "inputs": {
        "data": {"type": "uri_folder"},
        "learning_rate": {"type": "number", "default": 0.1, "min": 0},
    },
    "outputs": {"model": {"type": "mlflow_model"}},
    "code": f"upload:{_HASH}/code",
    "command": "python train.py --data ${{inputs.data}} --rate ${{inputs.learning_rate}} "
    "--out ${{outputs.model}}",
    "environment": "azureml:sklearn:3",
}
_GRAPH = {
    "name": "train_and_score",
    "type": "pipeline",
    "inputs": {"patients": {"type": "uri_folder"}},
    "outputs": {"scores": {"type": "uri_folder"}},
    "jobs": {
        "train": {
            "component": "azureml:train:1",
            "inputs": {"data": "${{parent.inputs.patients}}"},
        },
        "score": {
            "component": "azureml:score@latest",
            "inputs": {
                "data": "${{parent.inputs.patients}}",
                "model": "${{parent.jobs.train.outputs.model}}",
            },
            "outputs": {"scores": "${{parent.outputs.scores}}"},
        },
    },
}
_COMPONENTS = {
    "command": {"summary": "A command with typed inputs and outputs", "value": _COMPONENT},
    "pipeline": {"summary": "A graph of steps", "value": _GRAPH},
}
_PIPELINE_DEPLOYMENT = {
    "name": "nightly",
    "endpoint_name": "heart",
    "type": "pipeline",
    "component": "azureml:train_and_score:1",
    "settings": {"default_compute": "local", "continue_on_step_failure": False},
}
_PIPELINE_JOB = {
    "type": "pipeline",
    "display_name": "Train and score",
    "component": "azureml:train_and_score:1",
    "inputs": {"patients": {"type": "uri_folder", "uri": "s3://hospital-data/patients/monday/"}},
    "outputs": {"scores": {"uri": "azureml://datastores/lake/paths/scored/monday"}},
    "settings": {"default_compute": "local"},
}
_DATASTORE = {
    "name": "lake",
    "type": "s3",
    "bucket": "hospital-data",
    "region": "eu-central-1",
    "credentials": {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "example-of-a-secret"},
}
_COMPUTE = {"name": "nightly", "type": "local", "min_instances": 0, "max_instances": 4}
_UPLOAD = {"entries": [{"path": "code/score.py", "size": 5120, "sha256": _HASH}]}
_INVOCATIONS = {
    "folder": {
        "summary": "Score a folder",
        "value": {"input": {"type": "uri_folder", "uri": "s3://hospital-data/patients/monday/"}},
    },
    "settings": {
        "summary": "Score a data asset with settings of its own",
        "value": {
            "deployment_name": "forest",
            "input": {"type": "uri_folder", "uri": "azureml:patients@latest"},
            "output": {"uri": "azureml://datastores/lake/paths/scored/monday"},
            "overrides": {
                "mini_batch_size": 20,
                "instance_count": 4,
                "output_file_name": "risks.csv",
            },
            "tags": {"run": "monday"},
        },
    },
    "pipeline": {
        "summary": "Run a pipeline with named inputs and outputs",
        "value": {
            "deployment_name": "nightly",
            "inputs": {
                "patients": {"type": "uri_folder", "uri": "azureml:patients@latest"},
                "learning_rate": 0.05,
            },
            "outputs": {"scores": {"uri": "azureml://datastores/lake/paths/scored/monday"}},
        },
    },
    "azure": {
        "summary": "Settings as callers of Azure ML send them",
        "value": {
            "properties": {
                "InputData": {
                    "patients": {
                        "JobInputType": "UriFolder",
                        "Uri": "azureml://datastores/lake/paths/patients/monday",
                    }
                },
                "OutputData": {
                    "score": {
                        "JobOutputType": "UriFile",
                        "Uri": "azureml://datastores/lake/paths/scored/monday/risks.csv",
                    }
                },
                "MiniBatchSize": 20,
            }
        },
    },
}
_DESCRIPTION = _one("Describe it", {"description": "Trained anew", "tags": {"stage": "live"}})

BODIES: dict[str, dict[str, Any]] = {
    "invoke_endpoint": _INVOCATIONS,
    "put_endpoint": _one("An endpoint", _ENDPOINT),
    "patch_endpoint": _one(
        "Switch the default deployment", {"defaults": {"deployment_name": "forest"}}
    ),
    "put_deployment": {
        "model": {"summary": "A model scored by a script", "value": _DEPLOYMENT},
        "pipeline": {"summary": "A graph of steps", "value": _PIPELINE_DEPLOYMENT},
    },
    "patch_deployment": _one("Another setting", {"settings": {"mini_batch_size": 50}}),
    "add_model": _one("A model in MLflow format that was uploaded", _MODEL),
    "add_environment": _one("Some requirements", _ENVIRONMENT),
    "add_data": _one("A folder in a datastore", _DATA),
    "create_job": _one("A registered graph, run once", _PIPELINE_JOB),
    "add_component": _COMPONENTS,
    "put_component_version": _COMPONENTS,
    "patch_component_version": _DESCRIPTION,
    "add_code": _one("Code that was uploaded", _CODE),
    "put_model_version": _one("A model in MLflow format that was uploaded", _MODEL),
    "put_environment_version": _one("Some requirements", _ENVIRONMENT),
    "put_data_version": _one("A folder in a datastore", _DATA),
    "put_code_version": _one("Code that was uploaded", _CODE),
    "patch_model_version": _DESCRIPTION,
    "patch_environment_version": _DESCRIPTION,
    "patch_data_version": _DESCRIPTION,
    "patch_code_version": _DESCRIPTION,
    "put_compute": _one("Up to four nodes on this machine", _COMPUTE),
    "patch_compute": _one("More nodes", {"max_instances": 8}),
    "put_datastore": _one("A bucket", _DATASTORE),
    "patch_datastore": _one("Make it the default", {"is_default": True}),
    "begin_upload": _one("One script", _UPLOAD),
}


def _told(error: BatchpointError, status: int | None = None) -> dict[str, Any]:
    problem = problem_of(error)
    return problem.model_copy(update={"status": status or problem.status}).model_dump()


PROBLEMS: dict[str, dict[str, Any]] = {
    "400": _told(
        error_from("field_unknown", "unknown field; remove it or check its spelling", "settings.x")
    ),
    "404": _told(
        error_from(
            "endpoint_not_found",
            "there is no endpoint named 'hart'; `batchpoint endpoint list` shows those there are",
        )
    ),
    "409": _told(error_from("endpoint_in_use", "endpoint 'heart' has jobs that run")),
    "413": _told(error_from("invalid", "the body has more than 67,108,864 bytes"), 413),
    "415": _told(
        error_from(
            "invalid",
            "the body has to come with content-type: application/json, and came with 'text/plain'",
        ),
        415,
    ),
    "416": _told(error_from("invalid", "the range lies outside the 512 bytes of a.csv"), 416),
    "503": _told(error_from("storage_unavailable", "s3://hospital-data does not answer")),
    "507": _told(error_from("storage_full", "the disk of this server is full")),
}
