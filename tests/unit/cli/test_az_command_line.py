"""What an az command line comes to."""

from __future__ import annotations

import shlex

import pytest

from batchpoint.cli.az_command_line import Shape, read_az
from batchpoint.cli.output_forms import OutputForm
from batchpoint.domain.errors import Invalid


@pytest.mark.parametrize(
    ("given", "ours", "shape"),
    [
        (
            "ml model create --name m --type custom_model --path model",
            "model create --name m --type custom_model --path model",
            "resource",
        ),
        ("ml data create -f data.yml -g rg -w ws", "data create -f data.yml", "resource"),
        (
            "ml batch-endpoint create --f e.yml --name e --resource-group=rg --no-wait",
            "batch-endpoint create --f e.yml --name e",
            "resource",
        ),
        (
            "ml batch-endpoint update --name e --set defaults.deployment_name=d tags.a=1 --debug",
            "batch-endpoint update --name e --set defaults.deployment_name=d --set tags.a=1",
            "resource",
        ),
        (
            "ml batch-deployment list-jobs --name d --endpoint-name e",
            "batch-deployment list-jobs --name d --endpoint-name e",
            "jobs",
        ),
        (
            "ml batch-endpoint invoke --name e --input azureml:d@latest --subscr 1",
            "batch-endpoint invoke --name e --input azureml:d@latest",
            "job",
        ),
        ("ml job show -n j --web", "job show -n j", "job"),
        (
            "ml component create --file c.yml --version 2 -g rg",
            "component create --file c.yml --version 2",
            "resource",
        ),
        (
            "ml job create --file p.yml --set inputs.a=1 settings.force_rerun=true --web",
            "job create --file p.yml --set inputs.a=1 --set settings.force_rerun=true",
            "job",
        ),
        ("ml job list --parent-job-name j", "job list --parent-job-name j", "jobs"),
        ("ml job cancel --name j", "job cancel --name j", "job"),
        (
            "ml component archive --name c --version 1",
            "component archive --name c --version 1",
            "nothing",
        ),
        ("ml job stream -n j", "job stream -n j", "stream"),
        ("ml job list", "job list", "jobs"),
        ("ml compute list", "compute list", "resources"),
        (
            "ml batch-endpoint delete --name e --yes",
            "batch-endpoint delete --name e --yes",
            "nothing",
        ),
        (
            "ml job download --name j --output-name score --download-path ./",
            "job download --name j --output-name score --download-path ./",
            "as_is",
        ),
        # The first generation of the extension.
        (
            (
                "ml endpoint invoke --name e --type batch --input-path https://h/x.csv "
                "--output-datastore azureml:ds --output-path out --set output_file_name=o.csv"
            ),
            (
                "batch-endpoint invoke --name e --set output_file_name=o.csv "
                "--input https://h/x.csv --output-path azureml://datastores/ds/paths/out"
            ),
            "job",
        ),
        (
            "ml endpoint invoke --name e --type batch --input-datastore azureml:ds --input-path in",
            "batch-endpoint invoke --name e --input azureml://datastores/ds/paths/in",
            "job",
        ),
    ],
)
def test_an_ml_command_becomes_ours(given: str, ours: str, shape: Shape) -> None:
    command = read_az(shlex.split(given))
    assert list(command.arguments) == shlex.split(ours)
    assert command.shape == shape
    assert command.web == ("--web" in given)


def test_query_and_form_are_taken_out_wherever_they_stand() -> None:
    command = read_az(["ml", "--query", "[].name", "job", "list", "-o", "tsv"])
    assert command.arguments == ("job", "list")
    assert command.query == "[].name"
    assert command.form == OutputForm.TSV
    assert read_az(["ml", "job", "list", "--output=yamlc"]).form == OutputForm.YAML
    assert read_az(["ml", "job", "list"], "table").form == OutputForm.TABLE


@pytest.mark.parametrize(
    "given",
    [
        "account set --subscription 1",
        "configure --defaults group=g workspace=w location=l",
        "extension add -n ml -y",
        "login --identity",
    ],
)
def test_what_sets_az_up_is_accepted_and_says_nothing(given: str) -> None:
    command = read_az(shlex.split(given))
    assert (command.arguments, command.answer) == ((), None)


def test_account_show_and_tokens_have_their_fields() -> None:
    shown = read_az(["account", "show"]).answer
    assert isinstance(shown, dict)
    assert "tenantId" in shown
    token = read_az(["account", "get-access-token", "--resource", "https://ml.azure.com"]).answer
    assert isinstance(token, dict)
    assert "accessToken" in token


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", "which command"),
        ("storage blob upload-batch -d x", "az storage blob has no counterpart"),
        ("ml online-endpoint create", "az ml online-endpoint has no counterpart"),
        ("ml endpoint show --name e --type online", "only batch endpoints"),
        ("ml job list -o excel", "-o excel is not one of"),
        ("ml job list -o", "-o needs a value"),
        ("ml model update --name m --add tags a", "--add is not supported"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(given: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        read_az(shlex.split(given))
