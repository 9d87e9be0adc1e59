"""Every field of Azure ML's files is honoured, refused by its name, or ignored aloud.

Each case is a file with one field of the contract, read by the real loader. What is honoured is
looked for in the body that the real SDK sends; what is not must be said with its place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from batchpoint.cli import (
    yaml_assets,
    yaml_component,
    yaml_deployment,
    yaml_files,
    yaml_pipeline,
)
from batchpoint.cli.invocation_file import load_invocation
from batchpoint.cli.invocation_flags import InputFlags
from batchpoint.cli.yaml_fields import FieldErrors
from batchpoint.client.client import Client
from batchpoint.client.embedded_transport import AsgiApp
from batchpoint.domain.errors import BatchpointError

# Each table of the contract, and every field in it.
ENDPOINT = """$schema name description tags properties auth_mode defaults.deployment_name identity
location id provisioning_state scoring_uri openapi_uri"""
SETTINGS = """max_concurrency_per_instance mini_batch_size retry_settings.max_retries
retry_settings.timeout error_threshold logging_level output_action output_file_name
environment_variables"""
RESOURCES = """resources.instance_count resources.instance_type resources.properties
resources.docker_args resources.shm_size resources.max_instance_count resources.locations"""
DEPLOYMENT = f"""$schema name endpoint_name type description tags properties model
code_configuration.code code_configuration.scoring_script environment compute
settings.instance_count
environment_variables error_threshold {RESOURCES}
{" ".join(f"settings.{field}" for field in SETTINGS.split())}"""
LEGACY = f"{SETTINGS} {RESOURCES}"
COMPUTE = """$schema name type description tags location size tier min_instances max_instances
idle_time_before_scale_down ssh_public_access_enabled ssh_settings network_settings identity
enable_node_public_ip"""
MODEL = "$schema name version type path description tags properties stage flavors datastore"
DATA = "$schema name version type path description tags"
DATASTORE = """$schema name type account_name container_name file_share_name filesystem endpoint
protocol credentials.account_key credentials.sas_token credentials.tenant_id credentials.client_id
credentials.client_secret credentials.certificate credentials.thumbprint credentials.resource_url
credentials.authority_url description tags store_name"""
ENVIRONMENT = """$schema name version image build.path build.dockerfile_path conda_file os_type
description tags inference_config channels dependencies"""
JOB = """inputs.type inputs.path inputs.default inputs.value inputs.mode outputs.type outputs.mode
outputs.path compute.target compute.instance_count compute.instance_type compute.location
compute.properties dataset error_threshold input_data mini_batch_size job_name output_data
output_dataset.datastore_id output_dataset.path output_file_name retry_settings.max_retries
retry_settings.timeout properties experiment_name environment_variables description tags name
deployment_name display_name settings.default_compute settings.continue_on_step_failure
settings.force_rerun settings.default_datastore jobs component type"""
INVOKE_FLAGS = """--input --input-type --output-path --mini-batch-size --instance-count --set --file
--job-name --experiment-name --deployment-name --name --query -o"""
COMMAND = """$schema name version type display_name description tags properties is_deterministic
inputs.type inputs.description inputs.default inputs.optional inputs.min inputs.max inputs.enum
inputs.mode outputs.type outputs.description outputs.mode command code environment
environment_variables resources.instance_count resources.instance_type resources.shm_size
distribution additional_includes limits.timeout retry_settings.max_retries retry_settings.timeout
identity services"""
PARALLEL = """task.type task.code task.entry_script task.program_arguments task.environment
task.append_row_to task.model input_data mini_batch_size partition_keys mini_batch_error_threshold
error_threshold logging_level retry_settings.max_retries retry_settings.timeout
max_concurrency_per_instance resources.instance_count environment_variables"""
STEP = """jobs.type jobs.component jobs.display_name jobs.description jobs.inputs jobs.outputs
jobs.compute jobs.environment jobs.environment_variables jobs.resources.instance_count jobs.limits
jobs.retry_settings jobs.mini_batch_size jobs.mini_batch_error_threshold jobs.error_threshold
jobs.logging_level jobs.max_concurrency_per_instance jobs.distribution jobs.identity"""
GRAPH = f"{STEP} settings"
PIPELINE_JOB = f"""$schema type name display_name experiment_name description tags properties
compute settings.default_compute settings.default_datastore settings.continue_on_step_failure
settings.force_rerun inputs.type inputs.path inputs.default inputs.value inputs.mode outputs.type
outputs.path outputs.mode outputs.name outputs.version jobs component identity {STEP}"""
PIPELINE_DEPLOYMENT = """$schema name endpoint_name type description tags properties component
job_definition settings.default_compute settings.default_datastore
settings.continue_on_step_failure settings.force_rerun identity compute model"""
CONTRACT = {
    "command": COMMAND,
    "parallel": PARALLEL,
    "graph": GRAPH,
    "pipeline job": PIPELINE_JOB,
    "pipeline deployment": PIPELINE_DEPLOYMENT,
    "endpoint": ENDPOINT,
    "deployment": DEPLOYMENT,
    "legacy": LEGACY,
    "compute": COMPUTE,
    "model": MODEL,
    "data": DATA,
    "datastore": DATASTORE,
    "environment": ENVIRONMENT,
    "job": JOB,
}


class Case(NamedTuple):
    """`text` is YAML that is merged over the minimal file of the noun; null removes a key.

    One of: `sent` (a dotted path in the body, with its value there), `refused` (a part of the
    sentence), `ignored` (the warning names the field), `dropped` (set by the server, so silent).
    """

    noun: str
    field: str
    text: str
    sent: tuple[str, Any] | None = None
    refused: str | None = None
    ignored: bool = False
    dropped: bool = False


MINIMAL: dict[str, dict[str, Any]] = {
    "endpoint": {"name": "heart"},
    "deployment": {
        "name": "blue", "endpoint_name": "heart", "type": "model", "model": "azureml:m:1",
    },
    "legacy": {"name": "blue", "endpoint_name": "heart", "model": "azureml:m:1"},
    "compute": {"name": "cluster"},
    "model": {"name": "m", "path": "model"},
    "data": {"name": "d", "path": "folder"},
    "datastore": {
        "name": "ds", "type": "azure_blob", "account_name": "acc", "container_name": "con",
    },
    "environment": {"name": "e", "requirements": ["numpy"]},
    "job": {"inputs": {"data": {"type": "uri_folder", "path": "folder"}}},
    "command": {"type": "command", "command": "true"},
    "parallel": {
        "type": "parallel", "input_data": "${{inputs.x}}", "inputs": {"x": {"type": "uri_folder"}},
        "task": {"type": "run_function", "code": "code", "entry_script": "score.py"},
    },
    "graph": {"type": "pipeline", "jobs": {"a": {"component": "azureml:c:1"}}},
    "pipeline job": {"type": "pipeline", "jobs": {"a": {"component": "azureml:c:1"}}},
    "pipeline deployment": {
        "name": "blue", "endpoint_name": "heart", "type": "pipeline", "component": "azureml:c:1",
    },
}  # fmt: skip


def kept(noun: str, *fields: str) -> list[Case]:
    """Fields of text that arrive as they are."""
    return [Case(noun, field, f"{field}: some", sent=(field, "some")) for field in fields]


def tagged(noun: str, *fields: str) -> list[Case]:
    return [Case(noun, f, f"{f}: {{a: 1, b: true}}", (f, {"a": "1", "b": "true"})) for f in fields]


def settings(noun: str, prefix: str) -> list[Case]:
    def case(field: str, value: str, arrives: Any) -> Case:
        *above, key = field.split(".")
        text = f"{key}: {value}"
        for holder in reversed([*prefix.split("."), *above] if prefix else above):
            text = f"{holder}: {{{text}}}"
        name = f"{prefix}.{field}" if prefix else field
        return Case(noun, name, text, (f"settings.{field}", arrives))

    return [
        case("max_concurrency_per_instance", "2", 2),
        case("mini_batch_size", "20", 20),
        case("retry_settings.max_retries", "1", 1),
        case("retry_settings.timeout", "30", 30),
        case("retry_settings.timeout", "PT5M", 300),
        case("error_threshold", "-1", -1),
        case("logging_level", "Debug", "debug"),
        case("output_action", "SummaryOnly", "summary_only"),
        case("output_file_name", "x.csv", "x.csv"),
        case("environment_variables", "{A: 1}", {"A": "1"}),
    ]


def resources(noun: str) -> list[Case]:
    return [
        Case(noun, "resources.instance_count", "resources: {instance_count: 3}",
             ("resources.instance_count", 3)),
        Case(noun, "resources.instance_type", "resources: {instance_type: x}",
             ("resources.instance_type", "x")),
        Case(noun, "resources.properties", "resources: {properties: {a: b}}", ignored=True),
        Case(noun, "resources.docker_args", "resources: {docker_args: -x}",
             refused="jobs run as processes, not in containers"),
        Case(noun, "resources.shm_size", "resources: {shm_size: 2g}", ignored=True),
        Case(noun, "resources.max_instance_count", "resources: {max_instance_count: 4}",
             refused="counted by resources.instance_count and do not grow"),
        Case(noun, "resources.locations", "resources: {locations: [a]}", ignored=True),
    ]  # fmt: skip


def schema(*nouns: str) -> list[Case]:
    return [Case(noun, "$schema", "$schema: https://x/y.json", dropped=True) for noun in nouns]


def steps(noun: str) -> list[Case]:
    """What a step of a graph may say, whatever the graph stands in."""

    def case(field: str, value: str, arrives: Any) -> Case:
        keys = field.split(".")
        text = f"{keys[-1]}: {value}"
        for holder in reversed(keys[:-1]):
            text = f"{holder}: {{{text}}}"
        both = text if field == "component" else f"component: 'azureml:c:1', {text}"
        return Case(noun, f"jobs.{field}", f"jobs: {{a: {{{both}}}}}", (f"jobs.a.{field}", arrives))

    def refusal(field: str, value: str, sentence: str) -> Case:
        text = f"jobs: {{a: {{component: 'azureml:c:1', {field}: {value}}}}}"
        return Case(noun, f"jobs.{field}", text, refused=sentence)

    return [
        case("type", "Command", "command"),
        refusal("type", "sweep", "jobs.a.type: 'sweep' is not supported"),
        case("component", "c@default", "azureml:c@latest"),
        case("component", "c:1", "azureml:c:1"),
        case("component", "azureml://registries/r/components/c/versions/1",
             "azureml://registries/r/components/c/versions/1"),
        case("display_name", "some", "some"),
        case("description", "some", "some"),
        case("inputs", "{x: '${{parent.inputs.x}}', y: 3, z: {type: number, value: 1}}",
             {"x": "${{parent.inputs.x}}", "y": 3, "z": 1}),
        case("inputs", "{m: {type: custom_model, path: 'azureml:m@latest', mode: Download}}",
             {"m": {"type": "custom_model", "path": "azureml:m@latest", "mode": "download"}}),
        refusal("inputs", "{m: {type: triton_model, path: x}}", "'triton_model' is not supported"),
        case("outputs", "{s: '${{parent.outputs.s}}', t: , u: {mode: upload, name: n, version: 1}}",
             {"s": "${{parent.outputs.s}}", "t": None,
              "u": {"mode": "upload", "name": "n", "version": "1"}}),
        case("compute", "azureml:cpu", "cpu"),
        case("environment", "azureml:e:1", "azureml:e:1"),
        case("environment_variables", "{A: 1}", {"A": "1"}),
        case("resources.instance_count", "2", 2),
        case("limits", "{timeout: PT1M}", {"timeout": 60}),
        case("retry_settings", "{max_retries: 1, timeout: 5}", {"max_retries": 1, "timeout": 5}),
        case("mini_batch_size", "10kb", "10kb"),
        case("mini_batch_error_threshold", "5", 5),
        case("error_threshold", "-1", -1),
        case("logging_level", "DEBUG", "debug"),
        case("max_concurrency_per_instance", "2", 2),
        refusal("distribution", "{type: mpi}", "a command runs once, on one node"),
        refusal("identity", "{type: managed}", "steps run as the server's user"),
    ]  # fmt: skip


def pipeline_settings(noun: str) -> list[Case]:
    return [
        Case(noun, "settings.default_compute", "settings: {default_compute: 'azureml:cpu'}",
             ("settings.default_compute", "cpu")),
        Case(noun, "settings.default_datastore", "settings: {default_datastore: 'azureml:ds'}",
             ("settings.default_datastore", "ds")),
        Case(noun, "settings.continue_on_step_failure",
             "settings: {continue_on_step_failure: false}",
             ("settings.continue_on_step_failure", False)),
        Case(noun, "settings.force_rerun", "settings: {force_rerun: true}",
             ("settings.force_rerun", True)),
        Case(noun, "settings.force_rerun", "settings: {on_finalize: x}",
             refused="settings.on_finalize: is not supported"),
    ]  # fmt: skip


CASES = [
    *schema("endpoint", "deployment", "compute", "model", "data", "datastore", "environment",
            "command", "pipeline job", "pipeline deployment"),
    # --- components
    *kept("command", "name", "display_name", "description", "command"),
    Case("command", "version", "version: 1.10", ("version", "1.10")),
    Case("command", "type", "type: Command", ("type", "command")),
    Case("command", "type", "type: sweep", refused="'sweep' is not supported"),
    Case("command", "type", "type: job", refused="expected one of command, parallel, pipeline"),
    *tagged("command", "tags", "properties"),
    Case("command", "is_deterministic", "is_deterministic: false", ("is_deterministic", False)),
    *(Case("command", "inputs.type", f"inputs: {{x: {{type: {kind}}}}}", ("inputs.x.type", known))
      for kind, known in (("Number", "number"), ("uri_file", "uri_file"), ("MLTable", "mltable"),
                          ("mlflow_model", "mlflow_model"), ("custom_model", "custom_model"),
                          ("boolean", "boolean"), ("integer", "integer"), ("string", "string"))),
    Case("command", "inputs.type", "inputs: {x: {type: triton_model}}",
         refused="inputs.x.type: 'triton_model' is not supported"),
    Case("command", "inputs.type", "inputs: {x: {}}", refused="inputs.x.type: is missing"),
    *(Case("command", f"inputs.{key}", f"inputs: {{x: {{type: number, {key}: {value}}}}}",
           (f"inputs.x.{key}", arrives))
      for key, value, arrives in (("description", "d", "d"), ("default", "0.5", 0.5),
                                  ("optional", "true", True), ("min", "0", 0), ("max", "1.5", 1.5),
                                  ("enum", "[1, 2]", [1, 2]))),
    Case("command", "inputs.mode", "inputs: {x: {type: uri_folder, mode: RoMount}}",
         ("inputs.x.mode", "ro_mount")),
    Case("command", "inputs.mode", "inputs: {x: {type: uri_folder, mode: eval_mount}}",
         refused="inputs.x.mode: 'eval_mount' is not supported"),
    Case("command", "outputs.type", "outputs: {y: {type: uri_file}}",
         ("outputs.y.type", "uri_file")),
    Case("command", "outputs.description", "outputs: {y: {description: d}}",
         ("outputs.y.description", "d")),
    Case("command", "outputs.mode", "outputs: {y: {mode: rw_mount}}",
         ("outputs.y.mode", "rw_mount")),
    Case("command", "code", "code: ./code", ("code", "{cwd}/code")),
    Case("command", "code", "code: azureml:c:1", ("code", "azureml:c:1")),
    Case("command", "code", "code: ./nowhere", refused="no folder is at"),
    Case("command", "code", "code: git+https://h/x", refused="code: 'git+https://h/x' is not supp"),
    Case("command", "environment", "environment: e@latest", ("environment", "azureml:e@latest")),
    Case("command", "environment", "environment: {conda_file: conda.yml}",
         ("environment.conda_file", {"dependencies": ["python=3.11"]})),
    Case("command", "environment_variables", "environment_variables: {A: 1}",
         ("environment_variables", {"A": "1"})),
    Case("command", "resources.instance_count", "resources: {instance_count: 1}",
         ("resources.instance_count", 1)),
    Case("command", "resources.instance_type", "resources: {instance_type: x}",
         ("resources.instance_type", "x")),
    Case("command", "resources.shm_size", "resources: {shm_size: 2g}", ignored=True),
    Case("command", "distribution", "distribution: {type: mpi}",
         refused="a command runs once, on one node"),
    Case("command", "additional_includes", "additional_includes: [a]",
         refused="put these files into the folder of `code`"),
    Case("command", "limits.timeout", "limits: {timeout: 60}", ("limits.timeout", 60)),
    Case("command", "retry_settings.max_retries", "retry_settings: {max_retries: 1}",
         ("retry_settings.max_retries", 1)),
    Case("command", "retry_settings.timeout", "retry_settings: {timeout: PT1M}",
         ("retry_settings.timeout", 60)),
    Case("command", "identity", "identity: {type: managed}", refused="as the server's user"),
    Case("command", "services", "services: {a: {}}", refused="nothing but the command runs"),
    # --- parallel components
    Case("parallel", "task.type", "task: {type: RunFunction, code: code, entry_script: score.py}",
         ("task.type", "run_function")),
    Case("parallel", "task.code", "task: {code: ./code, entry_script: score.py}",
         ("task.code", "{cwd}/code")),
    Case("parallel", "task.entry_script", "task: {code: ./code, entry_script: none.py}",
         refused="no file 'none.py' is in the code folder"),
    Case("parallel", "task.entry_script", "task: {code: ./code, entry_script: score.py}",
         ("task.entry_script", "score.py")),
    *(Case("parallel", f"task.{key}",
           f"task: {{code: code, entry_script: score.py, {key}: {text}}}", (f"task.{key}", arrives))
      for key, text, arrives in (
          ("program_arguments", "--a b", "--a b"),
          ("environment", "azureml:e:1", "azureml:e:1"),
          ("append_row_to", "'${{outputs.y}}'", "${{outputs.y}}"),
          ("model", "azureml:m:1", "azureml:m:1"),
          ("model", "{path: ./model, type: custom_model}",
           {"path": "{cwd}/model", "type": "custom_model"}))),
    *(Case("parallel", key, f"{key}: {text}", (key, arrives))
      for key, text, arrives in (
          ("input_data", "'${{inputs.x}}'", "${{inputs.x}}"), ("mini_batch_size", "5", "5"),
          ("mini_batch_size", "100 mb", "100 mb"), ("mini_batch_error_threshold", "5", 5),
          ("error_threshold", "-1", -1), ("logging_level", "INFO", "info"),
          ("max_concurrency_per_instance", "2", 2), ("environment_variables", "{A: 1}", {"A": "1"}),
      )),
    Case("parallel", "partition_keys", "partition_keys: [a]", refused="cut by files and rows"),
    Case("parallel", "retry_settings.max_retries", "retry_settings: {max_retries: 2}",
         ("retry_settings.max_retries", 2)),
    Case("parallel", "retry_settings.timeout", "retry_settings: {timeout: 60}",
         ("retry_settings.timeout", 60)),
    Case("parallel", "resources.instance_count", "resources: {instance_count: 2}",
         ("resources.instance_count", 2)),
    # --- pipelines
    *steps("graph"),
    Case("graph", "settings", "settings: {}", refused="belong to the pipeline job or deployment"),
    *steps("pipeline job"),
    *pipeline_settings("pipeline job"),
    *kept("pipeline job", "name", "display_name", "experiment_name", "description"),
    *tagged("pipeline job", "tags", "properties"),
    Case("pipeline job", "type", "type: Pipeline", ("type", "pipeline")),
    Case("pipeline job", "type", "type: command", refused="does not run alone: make it a step"),
    Case("pipeline job", "type", "type: sweep", refused="'sweep' is not supported"),
    Case("pipeline job", "compute", "compute: azureml:cpu", ("compute", "cpu")),
    Case("pipeline job", "inputs.type", "inputs: {x: {type: mltable, path: folder}}",
         ("inputs.x.type", "mltable")),
    Case("pipeline job", "inputs.type", "inputs: {x: {type: triton_model, path: folder}}",
         refused="'triton_model' is not supported"),
    Case("pipeline job", "inputs.path", "inputs: {x: {path: folder}}",
         ("inputs.x.uri", "{cwd}/folder")),
    Case("pipeline job", "inputs.path", "inputs: {x: {type: mlflow_model, path: 'models:/m/1'}}",
         ("inputs.x.uri", "models:/m/1")),
    Case("pipeline job", "inputs.default", "inputs: {x: {type: integer, default: '3'}}",
         ("inputs.x", 3)),
    Case("pipeline job", "inputs.value", "inputs: {x: {value: 0.5}, y: words}", ("inputs.x", 0.5)),
    Case("pipeline job", "inputs.value", "inputs: {x: words}", ("inputs.x", "words")),
    Case("pipeline job", "inputs.mode", "inputs: {x: {path: folder, mode: download}}",
         ("inputs.x.mode", "download")),
    Case("pipeline job", "outputs.type", "outputs: {y: {type: mlflow_model}}",
         ("outputs.y.type", "mlflow_model")),
    Case("pipeline job", "outputs.path", "outputs: {y: {path: out}}",
         ("outputs.y.uri", "{cwd}/out")),
    Case("pipeline job", "outputs.path", "outputs: {y: 's3://b/o'}", ("outputs.y.uri", "s3://b/o")),
    Case("pipeline job", "outputs.path", "outputs: {y: }", ("outputs", {"y": None})),
    Case("pipeline job", "outputs.mode", "outputs: {y: {mode: Upload}}",
         ("outputs.y.mode", "upload")),
    Case("pipeline job", "outputs.name", "outputs: {y: {name: n}}", ("outputs.y.name", "n")),
    Case("pipeline job", "outputs.version", "outputs: {y: {name: n, version: 2}}",
         ("outputs.y.version", "2")),
    Case("pipeline job", "jobs", "jobs: {a: {}}", refused="jobs.a: says not what to run"),
    Case("pipeline job", "jobs", "jobs: {}", refused="jobs: has no steps"),
    Case("pipeline job", "component", "jobs: null\ncomponent: azureml:c:1",
         ("component", "azureml:c:1")),
    Case("pipeline job", "identity", "identity: {type: managed}", refused="as the server's user"),
    # --- deployments of pipelines
    *pipeline_settings("pipeline deployment"),
    Case("pipeline deployment", "name", "name: red", ("name", "red")),
    Case("pipeline deployment", "endpoint_name", "endpoint_name: lung", ("endpoint_name", "lung")),
    Case("pipeline deployment", "type", "type: Pipeline", ("type", "pipeline")),
    *kept("pipeline deployment", "description"),
    *tagged("pipeline deployment", "tags", "properties"),
    Case("pipeline deployment", "component", "component: c@default",
         ("component", "azureml:c@latest")),
    Case("pipeline deployment", "component", "component: {type: command, command: 'true'}",
         refused="is one step, not a pipeline"),
    Case("pipeline deployment", "job_definition", "component: null\njob_definition: azureml:j",
         ("job_definition", "j")),
    Case("pipeline deployment", "job_definition", "component: null\njob_definition: {jobs: {}}",
         refused="a job written inline is not supported"),
    Case("pipeline deployment", "identity", "identity: {type: x}", refused="as the server's user"),
    Case("pipeline deployment", "compute", "compute: x", refused="write settings.default_compute"),
    Case("pipeline deployment", "model", "model: azureml:m:1",
         refused="it belongs to model deployments"),
    # --- endpoints
    Case("endpoint", "name", "name: lung", ("name", "lung")),
    *kept("endpoint", "description", "location"),
    *tagged("endpoint", "tags", "properties"),
    Case("endpoint", "auth_mode", "auth_mode: aadToken", ("auth_mode", "aad_token")),
    Case("endpoint", "auth_mode", "auth_mode: key", refused="batch endpoints know aad_token only"),
    Case("endpoint", "auth_mode", "auth_mode: aml_token", refused="know aad_token only"),
    Case("endpoint", "defaults.deployment_name", "defaults: {deployment_name: b}",
         ("defaults.deployment_name", "b")),
    Case("endpoint", "identity", "identity: {type: x}", refused="has no identity of its own"),
    *(Case("endpoint", f, f"{f}: x", dropped=True)
      for f in ("id", "provisioning_state", "scoring_uri", "openapi_uri")),
    # --- deployments
    Case("deployment", "name", "name: red", ("name", "red")),
    Case("deployment", "endpoint_name", "endpoint_name: lung", ("endpoint_name", "lung")),
    Case("deployment", "type", "type: Model", ("type", "model")),
    *kept("deployment", "description"),
    *tagged("deployment", "tags", "properties"),
    Case("deployment", "model", "model: m@latest", ("model", "azureml:m@latest")),
    Case("deployment", "model", "model: {name: m, path: model}", ("model.path", "{cwd}/model")),
    Case("deployment", "model", "model: ./model", ("model.path", "{cwd}/model")),
    Case("deployment", "model", "model: 'models:/heart/3'", ("model.path", "models:/heart/3")),
    Case("deployment", "model", "model: azureml://registries/r/models/m/versions/1",
         ("model", "azureml://registries/r/models/m/versions/1")),
    Case("deployment", "code_configuration.code",
         "code_configuration: {code: code, scoring_script: score.py}",
         ("code_configuration.code", "{cwd}/code")),
    Case("deployment", "code_configuration.code",
         "code_configuration: {code: /subscriptions/s/resourceGroups/g/workspaces/w/codes/c/"
         "versions/1, scoring_script: score.py}", ("code_configuration.code", "azureml:c:1")),
    Case("deployment", "code_configuration.scoring_script",
         "code_configuration: {code: code, scoring_script: score.py}",
         ("code_configuration.scoring_script", "score.py")),
    Case("deployment", "environment", "environment: azureml:e:2", ("environment", "azureml:e:2")),
    Case("deployment", "environment", "environment: {conda_file: conda.yml}",
         ("environment.conda_file", {"dependencies": ["python=3.11"]})),
    Case("deployment", "compute", "compute: azureml:batch-cluster", ("compute", "batch-cluster")),
    Case("deployment", "settings.instance_count", "settings: {instance_count: 2}",
         ("settings.instance_count", 2)),
    Case("deployment", "settings.instance_count",
         "settings: {instance_count: 2}\nresources: {instance_count: 2}", refused="keep one"),
    Case("deployment", "settings.output_file_name",
         "settings: {output_action: summary_only, output_file_name: x}",
         refused="means nothing with output_action: summary_only"),
    Case("deployment", "environment_variables", "environment_variables: {A: 1}",
         ("settings.environment_variables", {"A": "1"})),
    Case("deployment", "error_threshold", "error_threshold: 0", ("settings.error_threshold", 0)),
    *settings("deployment", "settings"),
    *resources("deployment"),
    *settings("legacy", ""),
    *resources("legacy"),
    # --- computes
    Case("compute", "name", "name: other", ("name", "other")),
    Case("compute", "type", "type: AmlCompute", ("type", "amlcompute")),
    Case("compute", "type", "type: kubernetes", refused="Kubernetes is not supported yet"),
    *kept("compute", "description", "location", "size"),
    *tagged("compute", "tags"),
    Case("compute", "tier", "tier: LowPriority", ("tier", "low_priority")),
    Case("compute", "min_instances", "min_instances: 1", ("min_instances", 1)),
    Case("compute", "max_instances", "max_instances: 5", ("max_instances", 5)),
    Case("compute", "idle_time_before_scale_down", "idle_time_before_scale_down: PT2M",
         ("idle_time_before_scale_down", 120)),
    *(Case("compute", f, f"{f}: {{a: b}}", ignored=True)
      for f in ("ssh_public_access_enabled", "ssh_settings", "network_settings", "identity",
                "enable_node_public_ip")),
    # --- models
    Case("model", "name", "name: n", ("name", "n")),
    Case("model", "version", "version: 010", ("version", "010")),
    Case("model", "type", "type: CustomModel", ("type", "custom_model")),
    Case("model", "type", "type: mlflow_model", ("type", "mlflow_model")),
    Case("model", "type", "type: triton_model", refused="triton_model is not supported"),
    Case("model", "path", "path: ./model", ("path", "{cwd}/model")),
    *(Case("model", "path", f"path: '{uri}'", ("path", uri))
      for uri in ("azureml://datastores/d/paths/m", "azureml://jobs/j/outputs/score/paths/m",
                  "runs:/r/model", "models:/heart@best", "s3://b/m")),
    *kept("model", "description"),
    *tagged("model", "tags", "properties"),
    Case("model", "stage", "stage: Production", refused="models have no stages"),
    Case("model", "flavors", "flavors: {python_function: {}}", ignored=True),
    Case("model", "datastore", "datastore: azureml:d", refused="azureml://datastores/NAME/paths"),
    # --- data
    Case("data", "name", "name: n", ("name", "n")),
    Case("data", "version", "version: 1.10", ("version", "1.10")),
    Case("data", "type", "path: s3://b/x\ntype: UriFile", ("type", "uri_file")),
    Case("data", "type", "path: s3://b/x\ntype: mltable", ("type", "mltable")),
    Case("data", "type", "type: uri_file", refused="is a folder; write uri_folder"),
    Case("data", "type", "path: folder/a.csv", ("type", "uri_file")),
    *(Case("data", "path", f"path: '{uri}'", ("path", uri))
      for uri in ("https://host/a.csv", "azureml://datastores/d/paths/p",
                  "wasbs://c@a.blob.core.windows.net/p", "abfss://f@a.dfs.core.windows.net/p",
                  "azureml://jobs/j/outputs/score")),
    Case("data", "path", "path: folder", ("path", "{cwd}/folder")),
    Case("data", "path", "path: nowhere", refused="no file or folder is at"),
    *kept("data", "description"),
    *tagged("data", "tags"),
    # --- datastores
    Case("datastore", "name", "name: other", ("name", "other")),
    Case("datastore", "type", "type: AzureBlob", ("type", "azure_blob")),
    Case("datastore", "type", "type: azure_data_lake_gen2\nfilesystem: f",
         ("type", "azure_data_lake_gen2")),
    *(Case("datastore", "type", f"type: {kind}", refused=f"type: '{kind}' is not supported")
      for kind in ("azure_file", "azure_data_lake_gen1", "one_lake")),
    *kept("datastore", "account_name", "container_name", "description"),
    *tagged("datastore", "tags"),
    Case("datastore", "filesystem", "type: azure_data_lake_gen2\nfilesystem: f",
         ("filesystem", "f")),
    Case("datastore", "file_share_name", "file_share_name: f", refused="file shares are not sup"),
    Case("datastore", "store_name", "store_name: f", refused="Data Lake Gen1 is switched off"),
    Case("datastore", "endpoint", "endpoint: core.windows.net", ("endpoint", "core.windows.net")),
    Case("datastore", "protocol", "protocol: http", ("protocol", "http")),
    *(Case("datastore", f"credentials.{f}", f"credentials: {{{f}: 0123}}",
           (f"credentials.{f}", "0123"))
      for f in ("account_key", "sas_token", "tenant_id", "client_id", "client_secret",
                "authority_url")),
    *(Case("datastore", f"credentials.{f}", f"credentials: {{{f}: x}}",
           refused="give client_secret, sas_token or account_key")
      for f in ("certificate", "thumbprint")),
    Case("datastore", "credentials.resource_url", "credentials: {resource_url: x, sas_token: y}",
         ignored=True),
    # --- environments
    Case("environment", "name", "name: n", ("name", "n")),
    Case("environment", "version", "version: 2", ("version", "2")),
    *kept("environment", "image", "description"),
    *tagged("environment", "tags"),
    Case("environment", "build.path", "build: {path: .}", refused="images are not built here"),
    Case("environment", "build.dockerfile_path", "build: {path: ., dockerfile_path: D}",
         refused="images are not built here"),
    Case("environment", "conda_file", "conda_file: conda.yml",
         ("conda_file", {"dependencies": ["python=3.11"]})),
    Case("environment", "conda_file", "conda_file: {dependencies: [a]}",
         ("conda_file", {"dependencies": ["a"]})),
    Case("environment", "os_type", "os_type: Linux", ("os_type", "linux")),
    Case("environment", "os_type", "os_type: Windows", refused="expected linux"),
    Case("environment", "inference_config", "inference_config: {a: b}", ignored=True),
    Case("environment", "channels", "channels: [a]", refused="below conda_file"),
    Case("environment", "dependencies", "dependencies: [a]", refused="below conda_file"),
    # --- invocations
    Case("job", "inputs.type", "inputs: {d: {type: UriFile, path: folder/a.csv}}",
         ("inputs.d.type", "uri_file")),
    Case("job", "inputs.type", "inputs: {d: {type: mltable, path: folder}}",
         ("inputs.d.type", "mltable")),
    Case("job", "inputs.type", "inputs: {d: {type: mlflow_model, path: 'azureml:m:1'}}",
         ("inputs.d.uri", "azureml:m:1")),
    Case("job", "inputs.type", "inputs: {d: {type: triton_model, path: folder}}",
         refused="'triton_model' is not supported"),
    *(Case("job", "inputs.path", f"inputs: {{d: {{type: uri_folder, path: '{uri}'}}}}",
           ("inputs.d.uri", uri))
      for uri in ("https://host/x", "azureml://datastores/d/paths/p", "azureml:d@latest",
                  "azureml:d:3")),
    Case("job", "inputs.path", "inputs: {d: {path: folder}}", ("inputs.d.uri", "{cwd}/folder")),
    Case("job", "inputs.default", "inputs: {d: {path: folder}, m: {type: string, default: 1}}",
         ("inputs.m", "1")),
    Case("job", "inputs.value", "inputs: {d: {path: folder}, m: {type: number, value: 1.5}}",
         ("inputs.m", 1.5)),
    Case("job", "inputs.mode", "inputs: {d: {path: folder, mode: ro_mount}}",
         ("inputs.d.mode", "ro_mount")),
    Case("job", "inputs.mode", "inputs: {d: {path: folder, mode: eval_download}}",
         refused="'eval_download' is not supported"),
    Case("job", "outputs.path", "outputs: {score: {path: out}}",
         ("outputs.score.uri", "{cwd}/out")),
    Case("job", "outputs.type",
         "outputs: {s: {type: uri_file, path: azureml://datastores/d/paths/o/x.csv}}",
         ("outputs.s.uri", "azureml://datastores/d/paths/o/x.csv")),
    Case("job", "outputs.mode", "outputs: {s: {path: o, mode: upload}}",
         ("outputs.s.mode", "upload")),
    Case("job", "settings.default_compute", "settings: {default_compute: 'azureml:c'}",
         ("default_compute", "c")),
    Case("job", "settings.continue_on_step_failure", "settings: {continue_on_step_failure: false}",
         ("continue_on_step_failure", False)),
    Case("job", "settings.force_rerun", "settings: {force_rerun: true}", ("force_rerun", True)),
    Case("job", "settings.default_datastore", "settings: {default_datastore: x}",
         refused="it is a setting of the deployment"),
    Case("job", "jobs", "jobs: {}", refused="`job create` runs a pipeline job's file"),
    Case("job", "component", "component: x", refused="`job create` runs a pipeline job's file"),
    Case("job", "type", "type: pipeline", refused="has no type; remove it"),
    Case("job", "compute.instance_count", "compute: {instance_count: 5}",
         ("overrides.instance_count", 5)),
    *(Case("job", f"compute.{f}", f"compute: {{{f}: x}}",
           refused="a job runs on its deployment's compute")
      for f in ("target", "instance_type", "location", "properties")),
    Case("job", "dataset", "dataset: azureml:d:1", refused="say with inputs what to score"),
    Case("job", "input_data",
         "inputs: null\ninput_data: {UriFolder: {job_input_type: UriFolder, uri: 'https://h/x'}}",
         ("inputs.UriFolder.uri", "https://h/x")),
    Case("job", "output_data", "output_data: {s: {job_output_type: UriFolder, uri: 's3://b/o'}}",
         ("outputs.s.uri", "s3://b/o")),
    Case("job", "output_dataset.datastore_id",
         "output_dataset: {datastore_id: azureml:ds, path: /out}",
         ("output.uri", "azureml://datastores/ds/paths/out")),
    Case("job", "output_dataset.path", "output_dataset: {datastore_id: ds, path: out/x}",
         ("output.uri", "azureml://datastores/ds/paths/out/x")),
    Case("job", "error_threshold", "error_threshold: 3", ("overrides.error_threshold", 3)),
    Case("job", "mini_batch_size", "mini_batch_size: 20", ("overrides.mini_batch_size", 20)),
    Case("job", "output_file_name", "output_file_name: foo.csv",
         ("overrides.output_file_name", "foo.csv")),
    Case("job", "retry_settings.max_retries", "retry_settings: {max_retries: 1}",
         ("overrides.max_retries", 1)),
    Case("job", "retry_settings.timeout", "retry_settings: {timeout: PT40S}",
         ("overrides.timeout", 40)),
    Case("job", "environment_variables", "environment_variables: {A: 1}",
         ("overrides.environment_variables", {"A": "1"})),
    Case("job", "properties", "properties: {experimentName: e}", ("experiment_name", "e")),
    Case("job", "properties", "properties: {a: e}", refused="properties.a: unknown field"),
    Case("job", "name", "name: j", ("job_name", "j")),
    *kept("job", "job_name", "experiment_name", "description", "deployment_name", "display_name"),
    *tagged("job", "tags"),
]  # fmt: skip


class Recorder:
    """An ASGI app that keeps the last body it was sent, and refuses it."""

    def __init__(self) -> None:
        self.body: Any = None

    def app(self) -> AsgiApp:
        async def answer(_scope: Any, receive: Any, send: Any) -> None:
            message = await receive()
            self.body = json.loads(message["body"])
            headers = [(b"content-type", b"application/problem+json")]
            await send({"type": "http.response.start", "status": 400, "headers": headers})
            refusal = json.dumps({"code": "conflict", "detail": "recorded"}).encode()
            await send({"type": "http.response.body", "body": refusal})

        return answer


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("model", "folder", "code"):
        (tmp_path / name).mkdir()
    (tmp_path / "model" / "x.pkl").touch()
    (tmp_path / "folder" / "a.csv").touch()
    (tmp_path / "code" / "score.py").write_text("def init(): ...\ndef run(files): ...\n")
    (tmp_path / "conda.yml").write_text("dependencies: [python=3.11]\n")
    return tmp_path


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def client(recorder: Recorder) -> Iterator[Client]:
    with Client(app=recorder.app()) as made:
        yield made


Load = Callable[[Path], Any]
Send = Callable[[Client, Any], object]
NOUNS: dict[str, tuple[Load, Send]] = {
    "endpoint": (yaml_files.load_endpoint, lambda c, n: c.endpoints.create_or_update(n)),
    "deployment": (
        yaml_deployment.load_deployment, lambda c, n: c.deployments.create_or_update(n),
    ),
    "legacy": (yaml_deployment.load_deployment, lambda c, n: c.deployments.create_or_update(n)),
    "compute": (yaml_files.load_compute, lambda c, n: c.computes.create_or_update(n)),
    "model": (yaml_files.load_model, lambda c, n: c.models.create_or_update(n)),
    "data": (yaml_assets.load_data, lambda c, n: c.data.create_or_update(n)),
    "datastore": (yaml_assets.load_datastore, lambda c, n: c.datastores.create_or_update(n)),
    "environment": (yaml_files.load_environment, lambda c, n: c.environments.create_or_update(n)),
    "job": (lambda path: load_invocation(path, [], {}), lambda c, n: c.send_invocation("e", n)),
    **{
        noun: (yaml_component.load_component, lambda c, n: c.components.create_or_update(n))
        for noun in ("command", "parallel", "graph")
    },
    "pipeline job": (yaml_pipeline.load_pipeline_job, lambda c, n: c.jobs.create(n)),
    "pipeline deployment": (
        yaml_deployment.load_deployment, lambda c, n: c.deployments.create_or_update(n),
    ),
}  # fmt: skip


def written(case: Case) -> str:
    """Give the file of a case: the minimal one, in which the case's keys replace others."""
    own = yaml.compose(case.text)
    assert isinstance(own, yaml.MappingNode)
    replaced = {key.value for key, _ in own.value}
    base = {key: value for key, value in MINIMAL[case.noun].items() if key not in replaced}
    lines = [line for line in case.text.splitlines() if not line.endswith(": null")]
    return yaml.safe_dump(base, sort_keys=False) * bool(base) + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.noun}-{case.field}-{case.text}"[:70]
)
def test_the_field(case: Case, folder: Path, recorder: Recorder, client: Client) -> None:
    (folder / "file.yml").write_text(written(case))
    load, send = NOUNS[case.noun]
    if case.refused is not None:
        with pytest.raises(FieldErrors) as caught:
            load(Path("file.yml"))
        lines = [line for line in str(caught.value).splitlines() if case.refused in line]
        assert lines, str(caught.value)
        assert lines[0].startswith("file.yml:")
        assert case.field.rpartition(".")[2] in lines[0] or case.field.split(".")[0] in lines[0]
        return
    loaded = load(Path("file.yml"))
    if case.ignored:
        key = case.field.rpartition(".")[2]
        [warning] = loaded.warnings
        assert f"{key} has no effect here and was ignored: " in warning
        assert warning.startswith("file.yml:")
        return
    assert loaded.warnings == []
    with pytest.raises(BatchpointError, match="recorded"):
        send(client, loaded.noun)
    if case.dropped:
        assert case.field not in recorder.body
        return
    assert case.sent is not None
    path, value = case.sent
    found = recorder.body
    for step in path.split("."):
        found = found[step]
    if isinstance(value, str) and "${{" not in value:
        value = value.format(cwd=folder)
    if isinstance(value, dict) and "path" in value:
        value = {**value, "path": value["path"].format(cwd=folder)}
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("noun", CONTRACT)
def test_the_table_has_every_field_of_the_contract(noun: str) -> None:
    covered = {case.field for case in CASES if case.noun == noun}
    assert set(CONTRACT[noun].split()) <= covered


def test_what_stands_at_the_root_of_a_current_deployment_is_told(folder: Path) -> None:
    for field in ("mini_batch_size", "output_action", "retry_settings", "logging_level"):
        (folder / "file.yml").write_text(
            yaml.safe_dump({**MINIMAL["deployment"], field: None}, sort_keys=False)
        )
        with pytest.raises(FieldErrors, match=f"{field}: stands at the root: with `type: model`"):
            yaml_deployment.load_deployment(Path("file.yml"))


def test_every_flag_of_an_invocation_is_there() -> None:
    from batchpoint.cli.command_tree import COMMANDS, load_command

    command = load_command(COMMANDS["invoke"])
    known = {name for param in command.params for name in param.opts}
    assert set(INVOKE_FLAGS.split()) <= known


@pytest.mark.parametrize(
    ("option", "path", "value"),
    [
        ("compute.instance_count=4", "overrides.instance_count", 4),
        ("retry_settings.max_retries=2", "overrides.max_retries", 2),
        ("retry_settings.timeout=PT1M", "overrides.timeout", 60),
        ("settings.retry_settings.timeout=9", "overrides.timeout", 9),
        ("mini_batch_size=7", "overrides.mini_batch_size", 7),
        ("error_threshold=-1", "overrides.error_threshold", -1),
        ("output_file_name=a.csv", "overrides.output_file_name", "a.csv"),
        ("environment_variables.A=b", "overrides.environment_variables", {"A": "b"}),
        ("parameters.p=0.5", "overrides.parameters", {"p": 0.5}),
        ("properties.experiment_name=e", "experiment_name", "e"),
        ("tags.a=b", "tags", {"a": "b"}),
        ("outputs.score.path=azureml://datastores/d/paths/o", "outputs.score.uri",
         "azureml://datastores/d/paths/o"),
        ("inputs.data.path=https://h/x", "inputs.data.uri", "https://h/x"),
        ("inputs.n=3", "inputs.n", 3),
        ("settings.force_rerun=true", "force_rerun", True),
    ],
)  # fmt: skip
def test_every_dotted_override_arrives(
    option: str, path: str, value: Any, folder: Path, recorder: Recorder, client: Client
) -> None:
    flags = InputFlags() if option.startswith("inputs") else InputFlags(["folder"])
    found = load_invocation(None, [option], {}, inputs=flags).noun
    with pytest.raises(BatchpointError, match="recorded"):
        client.send_invocation("e", found)
    sent = recorder.body
    for step in path.split("."):
        sent = sent[step]
    assert sent == value
    assert folder.is_dir()


def test_what_is_refused_or_has_no_effect_is_in_the_reference() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "yaml.md").read_text("utf-8")
    table = page[page.index("## Azure's other fields") :]
    for case in CASES:
        if not case.ignored and (case.refused is None or case.sent is not None):
            continue
        noun = {"legacy": "deployment", "command": "component", "parallel": "component",
                "graph": "component"}.get(case.noun, case.noun)  # fmt: skip
        rows = [line for line in table.splitlines() if line.startswith(f"| {noun} |")]
        names = {case.field, case.field.split(".")[0], *(case.text.splitlines())}
        honoured = any(other.sent for other in CASES
                       if (other.noun, other.field) == (case.noun, case.field))  # fmt: skip
        assert honoured or any(f"`{name}`" in row for name in names for row in rows), case.field
