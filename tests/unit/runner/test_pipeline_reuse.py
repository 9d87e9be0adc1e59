"""Steps take over what earlier ones computed: the same work, the same content, still there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.job import Job, JobState, PublishedOutput
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import StepOutput
from batchpoint.node.command_order import CommandEnd, CommandOrder
from batchpoint.runner.reuse import Earlier, wanted_elsewhere
from batchpoint.runner.score_step import StepResult
from batchpoint.storage.content_identity import content_identity
from batchpoint.storage.locate import path_of
from tests.unit.resolved_pipelines import command_step, score_step
from tests.unit.runner.pipeline_world import World, fail, succeed


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("1\n")
    yield made
    made.ledger.close()


def graph(world: World, parent: str, **first: Any) -> list[Job]:
    """`a` reads data, `b` reads what `a` made."""
    data = {"raw": (world.home / "data").as_uri()}
    return [
        world.step("a", parent=parent, data=data, **first),
        world.step("b", ["a"], parent=parent),
    ]


async def ran(world: World, parent: str, children: list[Job], **spec: Any) -> set[str]:
    """Run a pipeline and return the steps that were run, not taken over."""
    world.make(parent, children, **spec)
    assert await world.run(parent) is JobState.COMPLETED
    return set(world.engine.runs)


async def test_the_same_graph_again_runs_nothing(world: World) -> None:
    assert await ran(world, "p", graph(world, "p")) == {"a", "b"}
    assert await ran(world, "q", graph(world, "q"), outputs={"z": ("b", "made")}) == set()
    taken = world.ledger.get_job("q-a").status
    assert taken.reused_from == "p-a"
    assert taken.outputs == world.ledger.get_job("p-a").status.outputs
    assert taken.state is JobState.COMPLETED
    whole = world.status("q")
    assert (whole.progress.steps_reused, whole.progress.steps_done) == (2, 2)
    assert whole.outputs["z"].uri == world.ledger.get_job("p-b").status.outputs["made"].uri
    assert "step a took over the outputs of p-a" in world.log("q")


async def test_changed_data_is_computed_again_and_only_what_follows_from_it(world: World) -> None:
    await ran(world, "p", graph(world, "p"))
    (world.home / "data" / "rows.csv").write_text("2\n")
    # What `a` makes of it is the same as before: `b` need not run.
    assert await ran(world, "q", graph(world, "q")) == {"a"}
    assert world.ledger.get_job("q-b").status.reused_from == "p-b"


async def test_a_copy_of_the_data_is_the_same_data(world: World) -> None:
    await ran(world, "p", graph(world, "p"))
    (world.home / "data").rename(world.home / "moved")
    children = graph(world, "q")
    moved = command_step(
        "q", "a", data={"raw": (world.home / "moved").as_uri()}, outputs_below=world.home
    )
    assert await ran(world, "q", [moved, children[1]]) == set()


async def test_another_step_is_computed(world: World) -> None:
    await ran(world, "p", graph(world, "p"))
    assert await ran(world, "q", graph(world, "q", identity="other")) == {"a"}
    assert await ran(world, "r", graph(world, "r", literals={"x": "1"})) == {"a"}
    assert await ran(world, "s", graph(world, "s", literals={"x": "1"})) == set()


async def test_outputs_that_are_gone_or_changed_are_computed_again(world: World) -> None:
    await ran(world, "p", graph(world, "p"))
    (world.home / "outputs" / "p-a" / "made" / "text").write_text("spoiled")
    assert await ran(world, "q", graph(world, "q")) == {"a"}
    (world.home / "outputs" / "q-a" / "made" / "text").unlink()
    assert await ran(world, "r", graph(world, "r")) == {"a"}
    assert await ran(world, "s", graph(world, "s")) == set()
    assert world.ledger.get_job("s-a").status.reused_from == "r-a"


async def test_force_rerun_computes_and_its_results_count_from_then_on(world: World) -> None:
    await ran(world, "p", graph(world, "p"))
    assert await ran(world, "q", graph(world, "q"), force_rerun=True) == {"a", "b"}
    assert await ran(world, "r", graph(world, "r")) == set()
    assert world.ledger.get_job("r-a").status.reused_from == "q-a"


async def test_steps_that_are_not_deterministic_are_computed_always(world: World) -> None:
    for parent in ("p", "q"):
        children = graph(world, parent, is_deterministic=False)
        assert "a" in await ran(world, parent, children)


async def test_failed_steps_are_never_taken_over(world: World) -> None:
    world.doing["a"] = fail
    world.make("p", graph(world, "p"))
    assert await world.run("p") is JobState.FAILED
    world.doing["a"] = succeed
    assert await ran(world, "q", graph(world, "q")) == {"a", "b"}


async def test_data_whose_content_nobody_knows_is_never_taken_for_the_same(world: World) -> None:
    world.identify = lambda source, access: ""
    for parent in ("p", "q"):
        assert "a" in await ran(world, parent, graph(world, parent))


def wanted_at(world: World, parent: str, folder: Path) -> list[Job]:
    """The graph, with what `a` makes at a place of the caller's."""
    children = graph(world, parent)
    place = children[0].spec.step
    assert place is not None
    outputs = {
        "made": place.outputs["made"].model_copy(update={"uri": folder.as_uri(), "named": True})
    }
    spec = children[0].spec.model_copy(
        update={"step": place.model_copy(update={"outputs": outputs})}
    )
    return [children[0].model_copy(update={"spec": spec}), children[1]]


async def test_an_output_that_is_wanted_elsewhere_is_copied_there(world: World) -> None:
    await ran(world, "p", graph(world, "p"))
    mine = world.home / "mine"
    children = wanted_at(world, "q", mine)
    assert await ran(world, "q", children, outputs={"z": ("a", "made")}) == set()
    assert (mine / "text").read_text() == "a"
    whole = world.status("q")
    assert whole.outputs["z"].uri == mine.as_uri()
    earlier = world.ledger.get_job("p-a").status.outputs["made"]
    assert whole.outputs["z"].hash == earlier.hash
    (mine / "text").write_text("changed by its owner")
    assert (world.home / "outputs" / "p-a" / "made" / "text").read_text() == "a"


@pytest.mark.parametrize(
    ("earlier", "here", "is_wanted"),
    [
        ("file:///h/outputs/p-a/made", "azureml://datastores/lake/paths/azureml/q-a/made", True),
        ("azureml://datastores/sea/paths/p", "azureml://datastores/lake/paths/q", True),
        ("azureml://datastores/lake/paths/p", "azureml://datastores/lake/paths/q", False),
        ("azureml://datastores/lake/paths/p", "file:///h/outputs/q-a/made", False),
    ],
)
def test_a_default_datastore_gets_what_lies_elsewhere(
    world: World, earlier: str, here: str, is_wanted: bool
) -> None:
    place = world.step("a", parent="q").spec.step
    assert place is not None
    made = place.outputs["made"].model_copy(update={"uri": here})
    place = place.model_copy(update={"outputs": {"made": made}})
    found = Earlier("p-a", {"made": PublishedOutput(type=made.type, uri=earlier)})
    assert wanted_elsewhere(place, found) is is_wanted


async def test_a_place_that_is_taken_is_left_alone_by_what_is_taken_over(world: World) -> None:
    await ran(world, "p", graph(world, "p"))
    (world.home / "mine").mkdir()
    (world.home / "mine" / "theirs").write_text("x")
    refused = []

    async def look(order):
        refused.append(order.job)
        return await fail(order)

    world.doing["a"] = look
    world.make("q", wanted_at(world, "q", world.home / "mine"))
    assert await world.run("q") is JobState.FAILED
    assert refused == ["q-a"]  # the command itself is told, and says why
    assert [path.name for path in (world.home / "mine").iterdir()] == ["theirs"]


async def test_a_place_that_was_chosen_is_filled_even_if_it_looks_like_one_of_ours(
    world: World,
) -> None:
    await ran(world, "p", graph(world, "p"))
    mine = world.home / "results" / "q" / "z"
    children = wanted_at(world, "q", mine)
    assert await ran(world, "q", children, outputs={"z": ("a", "made")}) == set()
    assert (mine / "text").read_text() == "a"


async def test_what_changes_while_it_is_copied_is_computed(world: World) -> None:
    await ran(world, "p", graph(world, "p"))
    looks = 0
    earlier = world.home / "outputs" / "p-a" / "made"

    def identify(source: JobInput | str, access: StorageAccess) -> str:
        nonlocal looks
        told = content_identity(source, access)
        assert isinstance(source, JobInput)
        if source.uri == earlier.as_uri():
            looks += 1
            (earlier / "text").write_text(f"changed {looks}")  # behind our back
        return told

    world.identify = identify
    assert await ran(world, "q", wanted_at(world, "q", world.home / "mine")) == {"a"}
    assert looks == 2
    assert (world.home / "mine" / "text").read_text() == "a"
    assert not list(world.home.rglob("*.partial"))


async def test_data_that_changes_while_a_step_runs_names_no_result(world: World) -> None:
    data = world.home / "data" / "rows.csv"

    async def change(order: CommandOrder) -> CommandEnd:
        data.write_text("2\n")  # what it has read, nobody knows
        return await succeed(order)

    world.doing["a"] = change
    assert await ran(world, "p", graph(world, "p")) == {"a", "b"}
    world.doing["a"] = succeed
    data.write_text("1\n")
    assert await ran(world, "q", graph(world, "q")) == {"a"}


async def test_what_a_step_does_to_the_outputs_of_another_names_no_result(world: World) -> None:
    """Folders that are mounted to be read can be written to on one's own machine."""

    async def spoil(order: CommandOrder) -> CommandEnd:
        (world.home / "outputs" / "p-a" / "made" / "text").write_text("spoiled")
        return await succeed(order)

    world.doing["b"] = spoil
    assert await ran(world, "p", graph(world, "p")) == {"a", "b"}
    world.doing["b"] = succeed
    assert await ran(world, "q", graph(world, "q")) == {"a", "b"}


async def test_steps_that_score_are_copied_too(world: World, tmp_path: Path) -> None:
    async def score(child: Job) -> StepResult:
        assert child.spec.step is not None
        output = child.spec.step.outputs["scores"]
        folder = path_of(output.uri)
        folder.mkdir(parents=True)
        (folder / "rows.csv").write_text("0.5")
        made = PublishedOutput(
            type=output.type, uri=output.uri, hash=content_identity(output.uri, StorageAccess())
        )
        return StepResult("completed", outputs={"scores": made})

    def children(parent: str, **update: Any) -> list[Job]:
        child = score_step(parent, "s")
        assert child.spec.step is not None
        place = tmp_path / "outputs" / parent / "scores"
        output = StepOutput(type="uri_folder", uri=place.as_uri()).model_copy(update=update)
        step = child.spec.step.model_copy(update={"outputs": {"scores": output}})
        return [child.model_copy(update={"spec": child.spec.model_copy(update={"step": step})})]

    world.score = score
    world.make("p", children("p"))
    assert await world.run("p") is JobState.COMPLETED
    mine = tmp_path / "mine"
    world.make("q", children("q", uri=mine.as_uri(), named=True))
    assert await world.run("q") is JobState.COMPLETED
    assert [name for name, _ in world.scored] == ["p-s"]
    assert world.ledger.get_job("q-s").status.reused_from == "p-s"
    assert (mine / "rows.csv").read_text() == "0.5"
