"""YAML files of Azure ML load unchanged, and every mistake is named with its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.cli import yaml_deployment, yaml_files
from batchpoint.cli.yaml_fields import FieldErrors
from batchpoint.cli.yaml_files import Flags
from batchpoint.cli.yaml_nodes import plain
from batchpoint.cli.yaml_tree import parse_mapping
from batchpoint.domain.endpoint import ModelDeployment
from batchpoint.domain.errors import Invalid

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file and show its path as a user in that folder would type it."""
    monkeypatch.chdir(tmp_path)

    def put(name: str, text: str) -> Path:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        return Path(name)

    return put


def said(load: Callable[[], object]) -> list[str]:
    with pytest.raises(FieldErrors) as caught:
        load()
    return str(caught.value).split("\n")


def of_model(path: Path, sets: Sequence[str] = (), flags: Flags | None = None) -> ModelDeployment:
    found = yaml_deployment.load_deployment(path, sets, flags).noun
    assert isinstance(found, ModelDeployment)
    return found


CURRENT = """\
$schema: https://azuremlschemas.azureedge.net/latest/modelBatchDeployment.schema.json
name: mnist-torch-dpl
description: A deployment using Torch to solve the MNIST classification dataset.
endpoint_name: mnist-batch
type: model
model:
  name: mnist-classifier-torch
  path: model
code_configuration:
  code: code
  scoring_script: batch_driver.py
environment:
  name: batch-torch-py38
  image: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04:latest
  conda_file: environment/conda.yaml
compute: azureml:batch-cluster
resources:
  instance_count: 1
settings:
  max_concurrency_per_instance: 2
  mini_batch_size: 10
  output_action: append_row
  output_file_name: predictions.csv
  retry_settings:
    max_retries: 3
    timeout: 30
  error_threshold: -1
  logging_level: info
"""


def test_the_current_layout(write: Write, tmp_path: Path) -> None:
    path = write("sub/deployment.yml", CURRENT)
    write("sub/code/batch_driver.py", "")
    write("sub/model/model.pt", "")
    write(
        "sub/environment/conda.yaml",
        "name: x\ndependencies:\n  - python=3.8\n  - pip: [torch==1.10]\n",
    )
    deployment = of_model(path)
    assert yaml_deployment.load_deployment(path).warnings == []
    assert deployment.name == "mnist-torch-dpl"
    assert deployment.compute == "batch-cluster"
    assert deployment.settings.mini_batch_size == 10
    assert deployment.settings.retry_settings.timeout == 30
    assert not isinstance(deployment.model, str)
    assert deployment.model.path == str(tmp_path / "sub/model")
    assert deployment.code_configuration is not None
    assert deployment.code_configuration.code == str(tmp_path / "sub/code")
    environment = deployment.environment
    assert environment is not None
    assert not isinstance(environment, str)
    assert environment.conda_file == {
        "name": "x",
        "dependencies": ["python=3.8", {"pip": ["torch==1.10"]}],
    }


def test_the_legacy_layout_means_the_same(write: Write) -> None:
    path = write(
        "deployment.yml",
        "name: blue\nendpoint_name: heart\nmodel: azureml:heart@latest\nmini_batch_size: 2\n"
        "retry_settings: {max_retries: 3, timeout: PT5M}\nerror_threshold: 0\n"
        "environment_variables: {A: 1.10, B: true}\noutput_action: AppendRow\n"
        "resources: {instance_count: 3}\nmax_concurrency_per_instance: 4\n",
    )
    deployment = of_model(path)
    settings = deployment.settings
    assert deployment.type == "model"
    assert deployment.resources.instance_count == 3
    assert settings.mini_batch_size == 2
    assert settings.retry_settings.timeout == 300
    assert settings.error_threshold == 0
    assert settings.output_action == "append_row"
    assert settings.environment_variables == {"A": "1.10", "B": "true"}


def test_all_mistakes_at_once_with_their_places(write: Write) -> None:
    path = write(
        "deployment.yml",
        "name: x!\nendpoint_name: heart\ntype: model\nmodel: {name: a, pth: m}\n"
        "settings:\n  mini_batch_size: ten\n  error_threshold: 1.5\n  loging_level: info\n"
        "  retry_settings: {max_retries: [1]}\nmini_batch_size: 3\nenvironment: [a]\n"
        "resources: {instance_count: 0}\n",
    )
    found = said(lambda: yaml_deployment.load_deployment(path))
    expected = """\
deployment.yml:1:7: name: 'x!' is not a name: expected 3 to 32 letters, digits and hyphens, \
beginning with a letter and not ending with a hyphen
deployment.yml:4:8: model.path: is missing; expected text
deployment.yml:4:18: model.pth: unknown field; did you mean 'path'?
deployment.yml:6:20: settings.mini_batch_size: expected a whole number from 1 to 1,000,000, \
got 'ten'
deployment.yml:7:20: settings.error_threshold: expected a whole number >= -1, got 1.5
deployment.yml:8:3: settings.loging_level: unknown field; did you mean 'logging_level'?
deployment.yml:9:33: settings.retry_settings.max_retries: expected a whole number from 0 to 100, \
got a list
deployment.yml:10:1: mini_batch_size: stands at the root: with `type: model` it belongs below \
`settings`
deployment.yml:11:14: environment: expected text or a mapping, got a list
deployment.yml:12:29: resources.instance_count: expected a whole number from 1 to 10,000, got 0"""
    assert found == expected.split("\n")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model: azureml:heart", "names a model without its version"),
        ("model: azureml:heart@best", "has a label other than 'latest', the only one"),
        ("model: {path: nowhere}", "nothing is at"),
        ("model: {path: ., type: triton_model}", "triton_model is not supported"),
        ("environment: {build: {path: .}}", "environment.build: is not supported: images are not"),
        ("environment: {dependencies: [a]}", "put the conda file's content below conda_file"),
        ("environment: {conda_file: nowhere.yml}", "does not exist or is not a regular file"),
        ("environment: {conda_file: s3://b/c.yml}", "is a URI: expected a local path"),
        ("code_configuration: {code: nowhere, scoring_script: s.py}", "no folder is at"),
        ("code_configuration: {code: azureml:x, scoring_script: s.py}", "without its version"),
        ("code_configuration: {code: s3://b/x, scoring_script: s.py}", "is not supported: give"),
        (
            "code_configuration: {code: [a], scoring_script: s.py}",
            "code_configuration.code: expected text, got a list",
        ),
        ("resources: {docker_args: -x}", "jobs run as processes, not in containers"),
        ("resources: {instance_count: 2}\nsettings: {instance_count: 2}", "by another name"),
        ("settings: {default_compute: c}", "it belongs to pipeline deployments"),
        ("settings: {output_action: summary_only, output_file_name: x}", "remove one of the two"),
        ("error_threshold: 1\nsettings: {error_threshold: 1}", "stands below `settings` too"),
        ("instance_type: x", "it belongs to online endpoints"),
        ("settings: 3", "settings: expected a mapping, got 3"),
        ("tags: {a: [1]}", "tags.a: expected text, got a list"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(write: Write, text: str, sentence: str) -> None:
    given = {line.split(":")[0] for line in text.split("\n")}
    needed = {"name": "blue", "endpoint_name": "heart", "model": "azureml:m:1"}
    lines = [f"{key}: {value}" for key, value in needed.items() if key not in given]
    path = write("d.yml", "\n".join([text, *lines]))
    [line] = said(lambda: yaml_deployment.load_deployment(path))
    assert sentence in line
    assert line.startswith("d.yml:")


@pytest.mark.parametrize(
    ("model", "meant"),
    [
        ("azureml:heart:1", "azureml:heart:1"),
        ("azureml:heart@latest", "azureml:heart@latest"),
        ("heart:1.10", "azureml:heart:1.10"),
        (
            (
                "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices"
                "/workspaces/w/models/heart/versions/3"
            ),
            "azureml:heart:3",
        ),
        (
            "azureml:/subscriptions/s/resourceGroups/g/workspaces/w/models/heart/versions/3",
            "azureml:heart:3",
        ),
    ],
)
def test_references_come_out_in_one_form(write: Write, model: str, meant: str) -> None:
    path = write("d.yml", f"name: blue\nendpoint_name: heart\nmodel: {model}\n")
    assert of_model(path).model == meant


def test_a_path_in_place_of_a_model_is_an_inline_model(write: Write, tmp_path: Path) -> None:
    write("sub/m/MLmodel", "")
    path = write("sub/d.yml", "name: blue\nendpoint_name: heart\nmodel: ./m\n")
    model = of_model(path).model
    assert not isinstance(model, str)
    assert (model.path, model.type) == (str(tmp_path / "sub/m"), "mlflow_model")


def test_set_wins_over_the_file_and_flags_over_both(write: Write) -> None:
    path = write("d.yml", "name: blue\nendpoint_name: heart\nmodel: azureml:m:1\n")
    deployment = of_model(
        path,
        ["settings.mini_batch_size=7", "tags.a.b=", "tags={v: 1.10}", "name=red", "description="],
        {"name": ("--name", "green")},
    )
    assert deployment.settings.mini_batch_size == 7
    assert deployment.tags == {"v": "1.10"}
    assert deployment.name == "green"


def test_paths_of_set_are_those_of_the_current_folder(write: Write, tmp_path: Path) -> None:
    write("here/model.pkl", "")
    path = write("sub/d.yml", "name: blue\nendpoint_name: heart\nmodel: azureml:m:1\n")
    model = of_model(path, ["model=./here/model.pkl"]).model
    assert not isinstance(model, str)
    assert model.path == str(tmp_path / "here/model.pkl")


@pytest.mark.parametrize("option", ["", "a", "=1", "a..b=1", ".a=1", "a=[", "a=!!x 1", "name.x=1"])
def test_a_set_that_is_none_is_refused(write: Write, option: str) -> None:
    path = write("d.yml", "name: blue\nendpoint_name: heart\nmodel: azureml:m:1\n")
    with pytest.raises(Invalid, match="--set"):
        yaml_deployment.load_deployment(path, [option])


def test_a_bad_value_of_set_is_told_with_the_option(write: Write) -> None:
    path = write("d.yml", "name: blue\nendpoint_name: heart\nmodel: azureml:m:1\n")
    [line] = said(lambda: yaml_deployment.load_deployment(path, ["settings.mini_batch_size=no"]))
    assert line.startswith("--set settings.mini_batch_size: expected")


def test_an_amlcompute_file(write: Write) -> None:
    path = write(
        "compute.yml",
        "$schema: x\nname: batch-cluster\ntype: AmlCompute\nsize: Standard_DS3_v2\n"
        "tier: LowPriority\nmin_instances: 0\nmax_instances: 5\nidle_time_before_scale_down: 120\n"
        "ssh_public_access_enabled: true\nssh_settings: {admin_username: a}\n"
        "network_settings: {vnet_name: v}\nidentity: {type: system_assigned}\n",
    )
    compute, warnings, _ = yaml_files.load_compute(path)
    assert (compute.type, compute.tier, compute.max_instances) == ("amlcompute", "low_priority", 5)
    assert [warning.split(" ")[1] for warning in warnings] == [
        "ssh_public_access_enabled",
        "ssh_settings",
        "network_settings",
        "identity",
    ]
    assert warnings[0].startswith("compute.yml:9:1: ")


def test_another_kind_of_compute_is_refused(write: Write) -> None:
    path = write("compute.yml", "name: batch-cluster\ntype: kubernetes\n")
    [line] = said(lambda: yaml_files.load_compute(path))
    assert line == (
        "compute.yml:2:7: type: 'kubernetes' is not supported: Kubernetes is not supported yet; "
        "write local or amlcompute"
    )


def test_an_endpoint_as_shown_can_be_given_back(write: Write) -> None:
    path = write(
        "endpoint.yml",
        "$schema: x\nname: heart\ndescription: d\nauth_mode: aadToken\n"
        "defaults: {deployment_name: blue}\nscoring_uri: http://x\nprovisioning_state: Succeeded\n",
    )
    endpoint = yaml_files.load_endpoint(path).noun
    assert endpoint.auth_mode == "aad_token"
    assert endpoint.defaults.deployment_name == "blue"
    assert endpoint.scoring_uri is None


def test_an_endpoint_with_keys_is_refused(write: Write) -> None:
    path = write("endpoint.yml", "name: heart\nauth_mode: key\n")
    [line] = said(lambda: yaml_files.load_endpoint(path))
    assert line.startswith("endpoint.yml:2:12: auth_mode: is not supported")


def test_requirements_may_be_a_file(write: Write) -> None:
    write("sub/requirements.txt", "# pinned\npandas==2.0\n\nnumpy\n")
    path = write("sub/environment.yml", "name: env\nrequirements: requirements.txt\n")
    assert yaml_files.load_environment(path).noun.requirements == ["pandas==2.0", "numpy"]


def test_a_mistake_in_the_conda_file_names_both_files(write: Write) -> None:
    write("conda.yml", "dependencies: [a\n")
    path = write("environment.yml", "name: env\nconda_file: conda.yml\n")
    [line] = said(lambda: yaml_files.load_environment(path))
    assert line.startswith("environment.yml:2:13: conda_file: conda.yml:2:1: is not YAML here")


def test_numbers_keep_their_spelling_where_text_is_expected(write: Write) -> None:
    write("m/x", "")
    path = write("model.yml", "name: heart\nversion: 1.10\npath: m\ntags: {a: 010, b: 1e3}\n")
    model = yaml_files.load_model(path).noun
    assert model.version == "1.10"
    assert model.tags == {"a": "010", "b": "1e3"}
    assert model.model_dump(mode="json")["tags"] == {"a": "010", "b": "1e3"}


def test_merge_keys_and_anchors_work() -> None:
    tree = parse_mapping("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n", "f")
    assert plain(tree) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda below: (
        st.lists(below, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), below, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), json_values, max_size=5))
def test_what_yaml_writes_is_read_back(data: dict[str, object]) -> None:
    import yaml

    text = yaml.safe_dump(data, allow_unicode=True)
    # Keys are text whatever they look like; values that look like dates stay text.
    tree = plain(parse_mapping(text, "f")) if data else {}
    loaded = yaml.safe_load(text)
    assert tree == loaded


@given(st.text())
def test_any_text_is_a_mapping_or_refused(text: str) -> None:
    try:
        tree = parse_mapping(text, "f")
    except Invalid:
        return
    assert isinstance(plain(tree), dict)


@given(st.dictionaries(st.sampled_from(sorted(ModelDeployment.model_fields)), json_values))
def test_any_values_are_a_deployment_or_refused(data: dict[str, object]) -> None:
    from batchpoint.cli.yaml_nodes import MapNode, Mark
    from batchpoint.cli.yaml_overrides import tree_of

    tree = tree_of(data, Mark("f", 1, 1))
    assert isinstance(tree, MapNode)
    try:
        deployment = yaml_deployment.load_deployment(None, existing=tree).noun
    except FieldErrors:
        return
    assert deployment.name == data["name"]
