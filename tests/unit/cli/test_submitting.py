"""Submitting: everything that can be refused is refused before anything is uploaded or sent."""

from collections.abc import Callable
from pathlib import Path

import pytest

from db import datasets
from npuq.outbox import Outbox
from tests.services.world import World
from tests.unit.cli.answers import Answer, Npuq

Sweep = Callable[..., Answer]


@pytest.fixture
def sweep(npuq: Npuq, sqlite_world: World, tmp_path: Path) -> Sweep:
    """Return `npuq sweep` of a small file on a registered dataset of 200 samples, with more options."""
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    sqlite_world.transact(
        datasets.put, name="small", format="imagenet", root=str(tmp_path), digest="d" * 64, samples=200
    )

    def call(*options: str, recipe: str = "mobilenet_v1", dataset: str = "small") -> Answer:
        given = () if "--weights" in options else ("--weights", str(weights))
        return npuq("sweep", recipe, *given, "--dataset", dataset, *options)

    return call


def _nothing_left_the_house(home: Path) -> bool:
    return not list(Outbox(home / "outbox").pending()) and not (home / "store").exists()


@pytest.mark.parametrize(
    ("options", "changes", "expected"),
    [
        ((), {"recipe": "mobilenet_v2"}, "Did you mean 'mobilenet_v1'?"),
        ((), {"dataset": "smal"}, "did you mean 'small'?"),
        (("--weights", "nowhere.pth"), {}, "there is no file nowhere.pth"),
        (("--onnx", "x.onnx"), {}, "exactly one of --weights, --onnx and --om"),
        (("--batch-sizes", "1,two"), {}, "numbers separated by commas"),
        (("--batch-sizes", "4,4"), {}, "listed twice"),
        (("--batch-sizes", "0"), {}, "batch_sizes.0"),
        (("--precision", "fp12"), {}, "choose from fp16, mixed, fp32, origin"),
        (("--soc", "310P3"), {}, "soc_version"),
        (("--name", "two\nlines"), {}, "name"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_sent(
    options: tuple[str, ...], changes: dict[str, str], expected: str, sweep: Sweep, tmp_path: Path
) -> None:
    """Exit code 2, one sentence, nothing uploaded."""
    answer = sweep(*options, **changes)
    assert answer.code == 2
    assert expected in answer.err
    assert answer.out == ""
    assert _nothing_left_the_house(tmp_path)


def test_an_empty_file_is_refused(sweep: Sweep, tmp_path: Path) -> None:
    """A download that failed leaves one."""
    empty = tmp_path / "empty.pth"
    empty.touch()
    assert "is empty" in sweep("--weights", str(empty)).err


def test_a_dry_run_prints_the_plan_and_sends_nothing(sweep: Sweep, tmp_path: Path) -> None:
    """The same plan as the scheduler's: shards cover every sample once, at each batch size."""
    answer = sweep("--batch-sizes", "1,8", "--dry-run", "-o", "json")
    assert answer.code == 0
    plan = answer.json
    assert [job["kind"] for job in plan].count("benchmark") == 2
    for batch_size in (1, 8):
        shards = [job["params"] for job in plan if job["kind"] == "infer" and job["params"]["batch_size"] == batch_size]
        assert [shard["start"] for shard in shards[1:]] == [shard["stop"] for shard in shards[:-1]]
        assert (shards[0]["start"], shards[-1]["stop"]) == (0, 200)
    assert _nothing_left_the_house(tmp_path)


def test_a_submission_without_a_fleet_waits_in_the_outbox(sweep: Sweep, npuq: Npuq, tmp_path: Path) -> None:
    """The id alone on stdout; stderr says that nobody listens and what to do."""
    answer = sweep("--batch-sizes", "1", "--limit", "50", "--priority", "5")
    assert answer.code == 0
    (spec,) = Outbox(tmp_path / "outbox").pending()
    assert answer.out == f"{spec.run_id}\n"
    assert "npuq up" in answer.err
    assert (spec.limit, spec.priority, spec.source.name) == (50, 5, "weights.pth")
    assert npuq("wait", spec.run_id[:20], "--timeout", "0s").code == 4
    assert npuq("status", "-o", "json").json["outbox"] == 1


@pytest.mark.usefixtures("sweep")
def test_each_goal_has_its_own_command(npuq: Npuq, tmp_path: Path) -> None:
    """`submit benchmark` needs no dataset, `submit evaluate` does."""
    weights = str(tmp_path / "weights.pth")
    plan = npuq("submit", "benchmark", "mobilenet_v1", "--weights", weights, "--dry-run", "-o", "json").json
    assert [job["kind"] for job in plan] == ["export", "convert", "benchmark"]
    answer = npuq("submit", "evaluate", "mobilenet_v1", "--weights", weights)
    assert (answer.code, "evaluate needs a dataset" in answer.err) == (2, True)


@pytest.mark.usefixtures("sweep")
def test_a_reference_is_one_job_without_a_chip(npuq: Npuq, tmp_path: Path) -> None:
    """And says so when a chip is asked for all the same."""
    weights = str(tmp_path / "weights.pth")
    given = ("submit", "evaluate", "mobilenet_v1", "--weights", weights, "--dataset", "small", "--reference")
    plan = npuq(*given, "--dry-run", "-o", "json").json
    assert [job["kind"] for job in plan] == ["export", "evaluate"]
    answer = npuq(*given, "--soc", "Ascend310P3")
    assert answer.code == 2
    assert "a reference runs on no chip" in answer.err
