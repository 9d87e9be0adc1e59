"""A job file, `--set` and flags become one invocation, or every mistake in the author's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchpoint.cli.invocation_file import InputFlags, LoadedInvocation, load_invocation
from batchpoint.cli.yaml_fields import FieldErrors
from batchpoint.cli.yaml_files import Flags
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job import Invocation
from batchpoint.domain.job_pointers import JobOutput


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").touch()
    return tmp_path


def loaded(text: str = "", sets: list[str] | None = None, flags: Flags | None = None) -> Invocation:
    return whole(text, sets, flags).noun


def whole(
    text: str = "",
    sets: list[str] | None = None,
    flags: Flags | None = None,
    *,
    inputs: InputFlags | None = None,
    pairs: dict[str, list[str]] | None = None,
    output_path: str | None = None,
) -> LoadedInvocation:
    path = None
    if text:
        path = Path("jobs/job.yml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return load_invocation(
        path,
        sets or [],
        flags or {},
        inputs=inputs or InputFlags(),
        pairs=pairs,
        output_path=output_path,
    )


def pointed(*paths: str, kind: str | None = None, pattern: str | None = None) -> LoadedInvocation:
    return whole(inputs=InputFlags(paths, kind=kind, pattern=pattern))


def mistakes(
    text: str = "", sets: list[str] | None = None, flags: Flags | None = None
) -> list[str]:
    with pytest.raises(FieldErrors) as caught:
        loaded(text, sets, flags)
    return str(caught.value).split("\n")


def test_azures_job_file(folder: Path) -> None:
    found = loaded(
        "$schema: https://x\nexperiment_name: e\ndescription: d\n"
        "inputs:\n  heart:\n    type: uri_folder\n    path: ../data\n    mode: ro_mount\n"
        "outputs:\n  score: {type: uri_file, path: out}\n"
        "compute: {instance_count: 3}\nretry_settings: {max_retries: 1, timeout: PT40S}\n"
        "mini_batch_size: 5\nsettings: {environment_variables: {A: 1}}\n"
    )
    assert found.input.model_dump(exclude_unset=True) == {
        "type": "uri_folder",
        "uri": str(folder / "data"),
    }
    assert found.output is not None
    assert found.output.uri == str(folder / "jobs" / "out")
    overrides = found.overrides
    assert (overrides.instance_count, overrides.mini_batch_size) == (3, 5)
    assert (overrides.max_retries, overrides.timeout) == (1, 40)
    assert overrides.environment_variables == {"A": "1"}
    assert found.experiment_name == "e"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("data", "uri_folder"),
        ("data/a.csv", "uri_file"),
        ("s3://bucket/folder", "uri_folder"),
        ("https://host/data.csv?sig=a/b", "uri_file"),
        ("https://host/folder/", "uri_folder"),
        ("s3://bucket/folder/a.csv", "uri_file"),
        ("azureml://datastores/d/paths/x/a.parquet", "uri_file"),
        ("azureml://jobs/j/outputs/score/paths/predictions.csv", "uri_file"),
        ("nowhere", "uri_folder"),
    ],
)
def test_the_type_of_the_input_is_found(data: str, kind: str) -> None:
    assert pointed(data).noun.input.type == kind


def test_flags_win_over_sets_and_sets_over_the_file() -> None:
    text = (
        "inputs: {d: {type: uri_folder, path: ../data}}\nmini_batch_size: 1\nerror_threshold: 1\n"
    )
    found = loaded(
        text,
        ["mini_batch_size=2", "error_threshold=2"],
        {"overrides.mini_batch_size": ("--mini-batch-size", 3)},
    )
    assert (found.overrides.mini_batch_size, found.overrides.error_threshold) == (3, 2)


def test_mistakes_are_told_as_they_were_written() -> None:
    found = mistakes(
        "inputs: {d: {type: uri_folder, path: ../data}}\nretry_settings: {max_retries: x}\n"
        "compute: {target: c, instance_count: 0}\n",
        ["mini_batch_size=no"],
        {"overrides.instance_count": ("--instance-count", 0)},
    )
    assert found == [
        "--instance-count: expected a whole number from 1 to 10,000, got 0",
        "--set mini_batch_size: expected a whole number from 1 to 1,000,000, got False",
        (
            "jobs/job.yml:2:31: retry_settings.max_retries: expected a whole number from 0 to 100, "
            "got 'x'"
        ),
        (
            "jobs/job.yml:3:11: compute.target: is not supported: a job runs on its deployment's "
            "compute; only the instance count can be set"
        ),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mini_batch_size: 1", "1:1: input: is missing: say with --input"),
        ("inputs: {}", "inputs: has 0 entries: a model deployment takes exactly one"),
        ("inputs: {a: {path: x}, b: {path: y}}", "inputs: has 2 entries"),
        ("inputs: [a]", "inputs: expected a mapping of names to data, got a list"),
        ("inputs: {a: x}", "inputs.a: expected a mapping with type and path, got 'x'"),
        ("inputs: {a: {type: string, default: x}}", "input: is missing: say with --input"),
        ("inputs: {a: {type: integer, default: x}}", "inputs.a: expected a whole number, got 'x'"),
        ("inputs: {a: {type: number, default: true}}", "inputs.a: expected a number, got True"),
        ("inputs: {a: {type: boolean, value: 3}}", "inputs.a: expected true or false, got 3"),
        ("inputs: {a-b: {type: string, value: x}}", "inputs.a-b: is not a name"),
        ("inputs: {a: {type: string}}", "inputs.a: is missing a value: give `default`"),
        ("inputs: {a: {type: text, path: x}}", "inputs.a.type: expected uri_file, uri_folder, or"),
        ("inputs: {a: {path: x, pth: y}}", "inputs.a.pth: unknown field; did you mean 'path'?"),
        (
            "inputs: {a: {path: x}}\nretry_settings: {max_retrys: 1}",
            "retry_settings.max_retrys: unk",
        ),
        ("inputs: {a: {path: x}}\nproperties: {a: b}", "properties.a: unknown field"),
        (
            "inputs: {a: {path: x}}\nsettings: {output_action: x}",
            "settings.output_action: is not su",
        ),
        (
            "inputs: {a: {path: x}}\noutputs: {a: {type: mltable, path: b}}",
            "outputs.a.type: expect",
        ),
        ("inputs: {a: {path: x}}\noutputs: {a: {path: b}, c: {}}", "outputs: has 2 entries"),
        ("inputs: {a: {path: 'runs:/1/m'}}", "is a model of MLflow"),
        (
            "inputs: {a: {path: x}}\ninstance_count: 1\ncompute: {instance_count: 2}",
            "by another name",
        ),
        (
            "inputs: {a: {path: x}, b: {value: 1}}\nparameters: {b: 2}",
            "stands below `parameters` too",
        ),
        ("dataset: azureml:d:1", "dataset: is not supported: say with inputs what to score"),
        ("inputs: {a: {type: mltable, path: x}}", "tables are not supported"),
        ("inputs: {a: {type: mlflow_model, path: x}}", "the model belongs to the deployment"),
        ("inputs: {a: {type: uri_folder, path: 3}}", "inputs.a: expected a path or URI, got 3"),
        ("inputs: {a: {path: 'azureml:d'}}", "names a data asset without its version"),
        ("inputs: {a: {path: x}}\njobs: {}", "jobs: is not supported: pipeline jobs"),
        ("inputs: {a: {path: x}}\noutput_action: append_row", "it is a setting of the deployment"),
        ("inputs: {a: {path: x}}\nfoo: 1", "foo: unknown field; a job file has inputs, outputs"),
    ],
)
def test_what_is_refused(text: str, sentence: str) -> None:
    found = mistakes(text)
    assert sentence in "\n".join(found)
    assert all(line.startswith("jobs/job.yml:") for line in found)


# --- inputs of the command line ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("azureml:heart:3", "azureml:heart:3"),
        ("azureml:heart@latest", "azureml:heart@latest"),
        (
            "/subscriptions/s/resourceGroups/g/providers/P/workspaces/w/data/heart/versions/3",
            "azureml:heart:3",
        ),
        ("azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/d/paths/x/y",
         "azureml://datastores/d/paths/x/y"),
        ("azureml://jobs/j/outputs/score", "azureml://jobs/j/outputs/score"),
        (f"upload:{'a' * 64}/data", f"upload:{'a' * 64}/data"),
        ("abfss://fs@account.dfs.core.windows.net/p", "abfss://fs@account.dfs.core.windows.net/p"),
        ("https://host/a.csv?sig=%2B*", "https://host/a.csv?sig=%2B*"),
        ("file:///x/y", "file:///x/y"),
    ],
)  # fmt: skip
def test_pointers_come_out_in_one_form(text: str, uri: str) -> None:
    assert pointed(text).noun.input.uri == uri


def test_several_inputs_keep_their_order(folder: Path) -> None:
    (folder / "data" / "b.csv").touch()
    found = pointed("data/b.csv", "https://host/x.csv", "data/a.csv").noun.input
    assert found.type == "uri_file"
    assert found.uri is None
    assert found.uris == (
        str(folder / "data" / "b.csv"),
        "https://host/x.csv",
        str(folder / "data" / "a.csv"),
    )


def test_wildcards_are_a_folder_and_a_pattern(folder: Path) -> None:
    found = pointed("data/**/*.csv").noun.input
    assert (found.uri, found.pattern) == (str(folder / "data"), "**/*.csv")
    assert found.type == "uri_folder"
    remote = pointed("s3://bucket/x/*.csv").noun.input
    assert (remote.uri, remote.pattern) == ("s3://bucket/x/", "*.csv")
    several = pointed("data/*.csv", "other/*.csv").noun.input
    assert several.uris == (str(folder / "data"), str(folder / "other"))
    assert several.pattern == "*.csv"
    (folder / "data" / "a*.csv").touch()
    literal = pointed("data/a*.csv").noun.input
    assert (literal.uri, literal.pattern) == (str(folder / "data" / "a*.csv"), None)


@pytest.mark.parametrize(
    ("paths", "kind", "pattern", "sentence"),
    [
        (("data", "data/a.csv"), None, None, "have to be all files or all folders"),
        (("data/*.csv", "data/*.txt"), None, None, "wildcards have to be the same"),
        (("data/*.csv", "data"), None, None, "wildcards have to be the same"),
        (("data/*.csv",), None, "*.csv", "wildcards have to be the same"),
        (("azureml:heart",), None, None, "without its version"),
        (("models:/heart/1",), None, None, "is a model of MLflow"),
        (("data",), "uri_fold", None, "expected uri_file or uri_folder, got 'uri_fold'"),
    ],
)
def test_inputs_that_do_not_go_together(
    paths: tuple[str, ...], kind: str | None, pattern: str | None, sentence: str
) -> None:
    with pytest.raises(FieldErrors, match=sentence) as caught:
        pointed(*paths, kind=kind, pattern=pattern)
    assert str(caught.value).startswith("--input")


def test_a_type_that_nobody_said_is_known_as_such() -> None:
    assert pointed("azureml:d:1").type_found
    assert not pointed("azureml:d:1", kind="uri_file").type_found
    assert whole("inputs: {d: {path: 'azureml:d:1'}}").type_found
    assert not whole("inputs: {d: {path: 'azureml:d:1', type: uri_file}}").type_found


def test_a_list_of_inputs_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "list.txt").write_text("data/a.csv\r\n\nhttps://host/b c.csv\n")
    expected = (str(folder / "data" / "a.csv"), "https://host/b c.csv")
    assert whole(inputs=InputFlags(file_list="list.txt")).noun.input.uris == expected
    with (folder / "list.txt").open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert whole(inputs=InputFlags(file_list="-")).noun.input.uris == expected
    (folder / "empty.txt").write_text("\n")
    with pytest.raises(Invalid, match=r"empty\.txt names no input"):
        whole(inputs=InputFlags(file_list="empty.txt"))
    with pytest.raises(Invalid, match="--input-file-list: nowhere cannot be read"):
        whole(inputs=InputFlags(file_list="nowhere"))


def test_too_many_inputs_are_refused(folder: Path) -> None:
    (folder / "list.txt").write_text("x\n" * 10_001)
    with pytest.raises(FieldErrors, match=r"10,001 inputs are more than 10,000"):
        whole(inputs=InputFlags(file_list="list.txt"))


def test_flags_of_the_input_change_what_the_file_says(folder: Path) -> None:
    text = "inputs: {d: {type: uri_folder, path: ../data}}\n"
    found = whole(text, inputs=InputFlags(pattern="*.csv")).noun.input
    assert (found.uri, found.pattern) == (str(folder / "data"), "*.csv")
    found = whole(text, inputs=InputFlags(("data/a.csv",))).noun.input
    assert (found.uri, found.type) == (str(folder / "data" / "a.csv"), "uri_file")


def test_a_job_file_may_point_at_several_and_filter(folder: Path) -> None:
    found = loaded("inputs: {d: {type: uri_folder, path: [../data, 's3://b/x'], pattern: '*.csv'}}")
    assert found.input.uris == (str(folder / "data"), "s3://b/x")
    assert found.input.pattern == "*.csv"


# --- literals, parameters, variables -----------------------------------------------------------


def test_literal_inputs_become_parameters() -> None:
    found = loaded(
        "inputs:\n  d: {type: uri_folder, path: ../data}\n  s: {type: string, default: 010}\n"
        "  n: {type: number, default: '1.5'}\n  i: {type: integer, value: 3}\n"
        "  b: {type: boolean, default: 'True'}\n  l: {default: 1.5}\n  m: {default: text}\n"
        "parameters: {p: 1}\n"
    )
    parameters = found.overrides.parameters
    assert parameters == {
        "p": 1, "s": "010", "n": 1.5, "i": 3, "b": True, "l": 1.5, "m": "text",
    }  # fmt: skip
    assert [type(value) for value in parameters.values()] == [
        int, str, float, int, bool, float, str,
    ]  # fmt: skip


def test_pairs_are_typed_as_yaml() -> None:
    given = ["a=1", "b=1.5", "c=true", "d=text", "e=", "f='1'", "g=null", "h=x=y", "i=2026-01-01"]
    found = whole(
        inputs=InputFlags(("data",)), pairs={"--param": given, "--env": ["A=1", "B=[", "C="]}
    ).noun
    assert found.overrides.parameters == {
        "a": 1, "b": 1.5, "c": True, "d": "text", "e": "", "f": "1", "g": "null", "h": "x=y",
        "i": "2026-01-01",
    }  # fmt: skip
    assert found.overrides.environment_variables == {"A": "1", "B": "[", "C": ""}
    with pytest.raises(Invalid, match="--param: expected NAME=VALUE, got 'a'"):
        whole(inputs=InputFlags(("data",)), pairs={"--param": ["a"]})
    with pytest.raises(FieldErrors, match=r"--param a: .*got a list"):
        whole(inputs=InputFlags(("data",)), pairs={"--param": ["a=[1]"]})


def test_pairs_are_added_to_those_of_the_file() -> None:
    text = "inputs: {d: {path: ../data}}\nenvironment_variables: {A: a, B: b}\n"
    found = whole(text, pairs={"--env": ["B=c"]}).noun
    assert found.overrides.environment_variables == {"A": "a", "B": "c"}


# --- outputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "uri", "name"),
    [
        ("outputs: {score: {path: azureml://datastores/d/paths/o}}",
         "azureml://datastores/d/paths/o", None),
        ("outputs: {score: {type: uri_file, path: azureml://datastores/d/paths/o/x.csv}}",
         "azureml://datastores/d/paths/o/", "x.csv"),
        ("output_data: {s: {job_output_type: UriFile, uri: 's3://b/o/x.parquet'}}",
         "s3://b/o/", "x.parquet"),
        ("output_dataset: {datastore_id: azureml:ds, path: /o}",
         "azureml://datastores/ds/paths/o", None),
        ("outputs: {score: {type: uri_folder, mode: upload}}", None, None),
    ],
)  # fmt: skip
def test_outputs(text: str, uri: str | None, name: str | None) -> None:
    found = loaded(f"inputs: {{d: {{path: ../data}}}}\n{text}\n")
    assert (found.output and found.output.uri) == uri
    assert found.overrides.output_file_name == name


def test_an_output_of_the_command_line_wins(folder: Path) -> None:
    text = "inputs: {d: {path: ../data}}\noutputs: {score: {path: a}}\n"
    assert whole(text, output_path="b").noun.output == JobOutput(uri=str(folder / "b"))
    remote = whole(text, output_path="azureml://datastores/d/paths/p").noun.output
    assert remote == JobOutput(uri="azureml://datastores/d/paths/p")


def test_what_has_no_effect_is_said() -> None:
    found = whole("inputs: {d: {path: ../data, mode: ro_mount}}\ndisplay_name: x\n")
    assert [warning.partition(" has no")[0] for warning in found.warnings] == [
        "jobs/job.yml:2:1: display_name",
        "jobs/job.yml:1:29: inputs.d.mode",
    ]


def test_a_name_of_one_thing_in_a_set_wins_over_another_in_the_file() -> None:
    text = "inputs: {d: {path: ../data}}\nresources: {instance_count: 1}\n"
    found = loaded(text, ["compute.instance_count=2"])
    assert found.overrides.instance_count == 2
