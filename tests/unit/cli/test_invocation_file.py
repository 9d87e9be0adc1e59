"""A job file, `--set` and flags become one invocation, or every mistake in the author's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchpoint.cli.invocation_file import LoadedInvocation, load_invocation
from batchpoint.cli.invocation_flags import InputFlags
from batchpoint.cli.yaml_fields import FieldErrors
from batchpoint.cli.yaml_files import Flags
from batchpoint.domain.component import PipelineComponent
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job import Invocation
from batchpoint.domain.job_pointers import JobInput, JobOutput, PipelineOutput


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


def pointed(*paths: str, kind: str | None = None, pattern: str | None = None) -> JobInput:
    found = whole(inputs=InputFlags(paths, kind=kind, pattern=pattern)).noun.input
    assert found is not None
    return found


def data(found: Invocation, name: str = "d") -> JobInput:
    value = found.inputs[name]
    assert isinstance(value, JobInput)
    return value


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
    assert data(found, "heart").model_dump(exclude_unset=True) == {
        "type": "uri_folder",
        "uri": str(folder / "data"),
        "mode": "ro_mount",
    }
    assert found.input is None
    scores = PipelineOutput(type="uri_file", uri=str(folder / "jobs" / "out"))
    assert found.outputs == {"score": scores}
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
    assert pointed(data).type == kind


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
        ("inputs: [a]", "inputs: expected a mapping of names to data, got a list"),
        ("inputs: {a: [x]}", "inputs.a: expected a mapping with type and path, got a list"),
        ("inputs: {a-b: x}", "inputs.a-b: is not a name"),
        ("outputs: {a: [x]}", "outputs.a: expected a mapping with type and path, got a list"),
        ("inputs: {a: {type: integer, default: x}}", "inputs.a: expected a whole number, got 'x'"),
        ("inputs: {a: {type: number, default: true}}", "inputs.a: expected a number, got True"),
        ("inputs: {a: {type: boolean, value: 3}}", "inputs.a: expected true or false, got 3"),
        ("inputs: {a-b: {type: string, value: x}}", "inputs.a-b: is not a name"),
        ("inputs: {a: {type: string}}", "inputs.a: is missing a value: give `default`"),
        ("inputs: {a: {type: text, path: x}}", "inputs.a.type: expected uri_file, uri_folder, "),
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
            "inputs: {a: {path: x}}\noutputs: {a: {type: number, path: b}}",
            "outputs.a.type: expect",
        ),
        ("outputs: {a: {path: b, pth: c}}", "outputs.a.pth: unknown field; did you mean 'path'?"),
        ("outputs: {a: {path: [b, c]}}", "outputs.a: expected a path or URI, got a list"),
        ("inputs: {a: {type: triton_model, path: x}}", "inputs.a.type: 'triton_model' is not supp"),
        (
            "inputs: {a: {mode: eval_mount, path: x}}",
            "inputs.a.mode: 'eval_mount' is not supported",
        ),
        (
            "settings: {default_compute: 'azureml:a:1'}",
            "default_compute: 'azureml:a:1' is not a ref",
        ),
        ("settings: {default_datastore: x}", "settings.default_datastore: is not supported"),
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
        ("inputs: {a: {type: uri_folder, path: 3}}", "inputs.a: expected a path or URI, got 3"),
        ("inputs: {a: {path: 'azureml:d'}}", "names a data asset without its version"),
        ("inputs: {a: {path: x}}\njobs: {}", "jobs: is not supported: an endpoint runs"),
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
    assert pointed(text).uri == uri


def test_several_inputs_keep_their_order(folder: Path) -> None:
    (folder / "data" / "b.csv").touch()
    found = pointed("data/b.csv", "https://host/x.csv", "data/a.csv")
    assert found.type == "uri_file"
    assert found.uri is None
    assert found.uris == (
        str(folder / "data" / "b.csv"),
        "https://host/x.csv",
        str(folder / "data" / "a.csv"),
    )


def test_wildcards_are_a_folder_and_a_pattern(folder: Path) -> None:
    found = pointed("data/**/*.csv")
    assert (found.uri, found.pattern) == (str(folder / "data"), "**/*.csv")
    assert found.type == "uri_folder"
    remote = pointed("s3://bucket/x/*.csv")
    assert (remote.uri, remote.pattern) == ("s3://bucket/x/", "*.csv")
    several = pointed("data/*.csv", "other/*.csv")
    assert several.uris == (str(folder / "data"), str(folder / "other"))
    assert several.pattern == "*.csv"
    (folder / "data" / "a*.csv").touch()
    literal = pointed("data/a*.csv")
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
        (("data",), "uri_fold", None, "uri_file, uri_folder, .* or custom_model, got 'uri_fold'"),
    ],
)
def test_inputs_that_do_not_go_together(
    paths: tuple[str, ...], kind: str | None, pattern: str | None, sentence: str
) -> None:
    with pytest.raises(FieldErrors, match=sentence) as caught:
        pointed(*paths, kind=kind, pattern=pattern)
    assert str(caught.value).startswith("--input")


def test_a_type_that_nobody_said_is_known_as_such() -> None:
    def names(text: str = "", kind: str | None = None, *paths: str) -> frozenset[str]:
        return whole(text, inputs=InputFlags(paths, kind=kind)).open_types

    file = "inputs: {d: {path: 'azureml:d:1'}, e: {path: 'azureml:d:1', type: uri_file}}"
    assert names("", None, "azureml:d:1") == {""}
    assert names("", "uri_file", "azureml:d:1") == set()
    assert names(file) == {"d"}
    alone = "inputs: {d: {path: 'azureml:d:1'}, n: 3}"
    assert names(alone) == {"d"}
    assert names(alone, "uri_file") == set()
    assert names(alone, "uri_file", "azureml:e:1") == set()


def listed(name: str) -> JobInput:
    found = whole(inputs=InputFlags(file_list=name)).noun.input
    assert found is not None
    return found


def test_a_list_of_inputs_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "list.txt").write_text("data/a.csv\r\n\nhttps://host/b c.csv\n")
    expected = (str(folder / "data" / "a.csv"), "https://host/b c.csv")
    assert listed("list.txt").uris == expected
    with (folder / "list.txt").open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert listed("-").uris == expected
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
    found = data(whole(text, inputs=InputFlags(pattern="*.csv")).noun)
    assert (found.uri, found.pattern) == (str(folder / "data"), "*.csv")
    replaced = whole(text, inputs=InputFlags(("data/a.csv",))).noun
    found = data(replaced)
    assert (found.uri, found.type) == (str(folder / "data" / "a.csv"), "uri_file")
    assert replaced.input is None
    assert data(whole(text, inputs=InputFlags(kind="mltable")).noun).type == "mltable"


def test_flags_of_the_input_have_to_mean_one() -> None:
    two = "inputs: {d: {path: ../data}, e: {path: ../data}, n: 3}\n"
    with pytest.raises(FieldErrors, match="--input-type: is about one input, and there are 2"):
        whole(two, inputs=InputFlags(kind="uri_file"))
    with pytest.raises(FieldErrors, match="--input-pattern: is about one input, and there are 0"):
        whole("inputs: {n: 3}", inputs=InputFlags(pattern="*.csv"))
    found = whole(two, inputs=InputFlags(("data",))).noun
    assert found.input is not None
    assert set(found.inputs) == {"d", "e", "n"}


def test_a_job_file_may_point_at_several_and_filter(folder: Path) -> None:
    found = loaded("inputs: {d: {type: uri_folder, path: [../data, 's3://b/x'], pattern: '*.csv'}}")
    assert data(found).uris == (str(folder / "data"), "s3://b/x")
    assert data(found).pattern == "*.csv"


# --- literals, parameters, variables -----------------------------------------------------------


def test_literals_have_the_types_that_they_say() -> None:
    found = loaded(
        "inputs:\n  d: {type: uri_folder, path: ../data}\n  s: {type: string, default: 010}\n"
        "  n: {type: number, default: '1.5'}\n  i: {type: integer, value: 3}\n"
        "  b: {type: boolean, default: 'True'}\n  l: {default: 1.5}\n  m: {default: text}\n"
        "  p: 0.25\n  q: true\n  r: words\n  z:\n"
    )
    literals = {name: value for name, value in found.inputs.items() if name != "d"}
    assert literals == {
        "s": "010", "n": 1.5, "i": 3, "b": True, "l": 1.5, "m": "text", "p": 0.25, "q": True,
        "r": "words", "z": None,
    }  # fmt: skip
    assert [type(value) for value in literals.values()] == [
        str, float, int, bool, float, str, float, bool, str, type(None),
    ]  # fmt: skip


def test_pairs_are_typed_as_yaml() -> None:
    given = ["a=1", "b=1.5", "c=true", "d=text", "e=", "f='1'", "g=null", "h=x=y", "i=2026-01-01"]
    found = whole(
        inputs=InputFlags(("data",)), pairs={"--param": given, "--env": ["A=1", "B=[", "C="]}
    ).noun
    assert found.inputs == {
        "a": 1, "b": 1.5, "c": True, "d": "text", "e": "", "f": "1", "g": "null", "h": "x=y",
        "i": "2026-01-01",
    }  # fmt: skip
    assert found.overrides.environment_variables == {"A": "1", "B": "[", "C": ""}
    with pytest.raises(Invalid, match="--param: expected NAME=VALUE, got 'a'"):
        whole(inputs=InputFlags(("data",)), pairs={"--param": ["a"]})
    with pytest.raises(Invalid, match=r"--param a: expected text, a number or a bool, got a list"):
        whole(inputs=InputFlags(("data",)), pairs={"--param": ["a=[1]"]})


def test_pairs_are_added_to_those_of_the_file() -> None:
    text = "inputs: {n: 1}\nparameters: {p: 1, q: 2}\nenvironment_variables: {A: a, B: b}\n"
    found = whole(text, pairs={"--env": ["B=c"], "--param": ["p=3", "n=2", "m=x"]}).noun
    assert found.overrides.environment_variables == {"A": "a", "B": "c"}
    assert found.overrides.parameters == {"p": 3, "q": 2}
    assert found.inputs == {"n": 2, "m": "x"}


# --- outputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        ("outputs: {score: {path: azureml://datastores/d/paths/o}}",
         {"score": {"uri": "azureml://datastores/d/paths/o"}}),
        ("outputs: {score: {type: uri_file, path: azureml://datastores/d/paths/o/x.csv}}",
         {"score": {"type": "uri_file", "uri": "azureml://datastores/d/paths/o/x.csv"}}),
        ("output_data: {s: {job_output_type: UriFile, uri: 's3://b/o/x.parquet'}}",
         {"s": {"type": "uri_file", "uri": "s3://b/o/x.parquet"}}),
        ("outputs: {score: {type: uri_folder, mode: upload}}",
         {"score": {"type": "uri_folder", "mode": "upload"}}),
        ("outputs: {model: {type: mlflow_model, name: m, version: 3}, other: }",
         {"model": {"type": "mlflow_model", "name": "m", "version": "3"}, "other": None}),
        ("outputs: {a: 's3://b/o', b: azureml://datastores/d/paths/o}",
         {"a": {"uri": "s3://b/o"}, "b": {"uri": "azureml://datastores/d/paths/o"}}),
    ],
)  # fmt: skip
def test_outputs(text: str, outputs: dict[str, object]) -> None:
    found = loaded(f"inputs: {{d: {{path: ../data}}}}\n{text}\n")
    assert found.model_dump(exclude_unset=True)["outputs"] == outputs
    assert found.output is None


def test_an_output_of_before_names() -> None:
    found = loaded("output_dataset: {datastore_id: azureml:ds, path: /o}")
    assert found.output == JobOutput(uri="azureml://datastores/ds/paths/o")


def test_an_output_of_the_command_line_wins(folder: Path) -> None:
    text = "inputs: {d: {path: ../data}}\noutputs: {score: {path: a, type: uri_file}}\n"
    found = whole(text, output_path="b").noun
    assert found.outputs == {"score": PipelineOutput(type="uri_file", uri=str(folder / "b"))}
    assert found.output is None
    remote = whole("inputs: {}", output_path="azureml://datastores/d/paths/p").noun.output
    assert remote == JobOutput(uri="azureml://datastores/d/paths/p")


def test_what_a_pipeline_may_be_told() -> None:
    found = loaded(
        "display_name: x\n"
        "settings: {default_compute: azureml:cpu, continue_on_step_failure: false}\n",
        ["settings.force_rerun=true"],
    )
    assert found.display_name == "x"
    assert (found.default_compute, found.continue_on_step_failure) == ("cpu", False)
    assert found.force_rerun is True


def test_where_everything_was_written(folder: Path) -> None:
    found = whole(
        "inputs:\n  d: {path: ../data}\n  n: 3\nsettings:\n  force_rerun: true\n",
        ["inputs.m=4"],
        inputs=InputFlags(("data/a.csv",)),
        pairs={"--param": ["p=1"]},
    ).places
    told = {
        name: str(place[0])
        for name in ("inputs.n", "inputs.m", "inputs.p", "inputs.d.uri", "force_rerun", "inputs.z")
        if (place := found.find(name))
    }
    assert told == {
        "inputs.n": "jobs/job.yml:3:6",
        "inputs.m": "--set inputs.m",
        "inputs.p": "--param p",
        "inputs.d.uri": "--input",
        "force_rerun": "jobs/job.yml:5:16",
        "inputs.z": "jobs/job.yml:1:1",
    }
    assert folder.is_dir()


def test_a_name_of_one_thing_in_a_set_wins_over_another_in_the_file() -> None:
    text = "inputs: {d: {path: ../data}}\nresources: {instance_count: 1}\n"
    found = loaded(text, ["compute.instance_count=2"])
    assert found.overrides.instance_count == 2


def test_what_a_pipeline_does_not_have_is_told_with_what_the_file_got_wrong(folder: Path) -> None:
    pipeline = PipelineComponent.model_validate(
        {
            "inputs": {
                "rate": {"type": "number"},
                "n": {"type": "integer"},
                "raw": {"type": "uri_folder"},
            },
            "outputs": {"model": {"type": "custom_model"}},
            "jobs": {"fit": {"component": "azureml:fit:1"}},
        }
    )
    asked: list[str | None] = []

    def declared(deployment: str | None) -> PipelineComponent:
        asked.append(deployment)
        return pipeline

    def load(text: str, *data: str) -> LoadedInvocation:
        path = folder / "job.yml"
        path.write_text(text)
        return load_invocation(path, [], {}, inputs=InputFlags(data), declared=declared)

    wrong = (
        "deployment_name: green\ninputs:\n  rate: {type: number, default: abc}\n  nope: 3\n"
        "  n: many\noutputs: {other: {path: ./x}, model: {path: ./y}}\n"
    )
    with pytest.raises(FieldErrors) as caught:
        load(wrong)
    assert [(problem.field, problem.code) for problem in caught.value.problems] == [
        ("inputs.raw", "input_missing"),
        ("inputs.rate", "field_invalid"),
        ("inputs.nope", "field_unknown"),
        ("inputs.n", "field_invalid"),
        ("outputs.other", "field_unknown"),
    ]
    assert asked == ["green"]
    with pytest.raises(FieldErrors) as caught:
        load("inputs: {rate: {type: number, default: abc}, n: 3}\n", "data")
    assert [problem.field for problem in caught.value.problems] == ["inputs.rate"]
    assert asked == ["green", None]
    load("inputs: {whatever: 3}\n")  # what can be read is the server's to judge
    assert asked == ["green", None]
