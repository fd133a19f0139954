"""Datasets as people keep and cut them, seen from the command line: in the store, in parts, taken away under a run.

On the fleet of two emulated chips that really compute, shared with other modules; tests run in any order.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from npuq.states import FINAL_JOB_STATES
from tests.acceptance.conftest import PICTURES
from tests.fleet.laptop import LIMIT_SECONDS, Laptop
from tests.services.waiting import wait_until

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(180),
]


def drawn(laptop: Laptop, name: str, seed: int) -> Path:
    """Return a folder of sixteen pictures that no other test has, so that nothing of them is prepared anywhere."""
    folder = laptop.folder / name
    laptop.npuq("datasets", "make-demo", "imagenet", str(folder), "--images", "16", "--seed", str(seed))
    return folder


def right(result: dict[str, Any]) -> int:
    """Return how many pictures a result counts as right."""
    count: int = round(result["metrics"]["top1"] * result["samples"] / 100)
    return count


def test_a_dataset_in_the_store_scores_as_in_its_folder(laptop: Laptop) -> None:
    """Its folder is gone when the fleet gets it; no attempt leaves a file of it behind."""
    folder = drawn(laptop, "drawn", seed=41)
    copy = shutil.copytree(folder, laptop.folder / "copy")
    added = laptop.npuq("datasets", "add", "kept", str(folder), "--store").stderr
    assert "17 files in the store, 17 sent now" in added
    shutil.rmtree(folder)
    run_id = laptop.evaluate("kept", None, "--fresh")
    laptop.wait(run_id)
    laptop.add_dataset("lying", copy)
    again = laptop.evaluate("lying", None, "--fresh")
    laptop.wait(again)
    kept, lying = laptop.accuracy(run_id), laptop.accuracy(again)
    assert kept["dataset_digest"] == lying["dataset_digest"]
    assert (kept["samples"], kept["metrics"]) == (16, lying["metrics"])
    assert not list(laptop.fleet.home.glob("work/*/*/inputs/dataset"))


def test_two_parts_make_the_whole(laptop: Laptop, tmp_path: Path) -> None:
    """What is right in a list and what is right in the other images is what is right in all; a part is told as one."""
    ids = sorted(path.stem for path in laptop.demo.dataset_root.rglob("*.JPEG"))
    parts = []
    for number, listed in enumerate((ids[::3], [image for image in ids if image not in ids[::3]])):
        (tmp_path / f"{number}.txt").write_text("# a part\n" + "\n".join(reversed(listed)))
        run_id = laptop.evaluate("demo", None, "--images", str(tmp_path / f"{number}.txt"))
        laptop.wait(run_id)
        parts.append(laptop.accuracy(run_id))
        assert f"({len(listed)} of {PICTURES} images)" in laptop.npuq("results", "report", run_id).stdout
    run_id = laptop.evaluate()
    laptop.wait(run_id)
    whole = laptop.accuracy(run_id)
    assert [part["samples"] for part in parts] == [8, 16]
    assert all(part["partial"] for part in parts)
    assert (whole["partial"], whole["samples"]) == (False, PICTURES)
    assert sum(map(right, parts)) == right(whole)


def test_a_dataset_taken_away_under_a_run_ends_it_with_the_reason(laptop: Laptop) -> None:
    """Jobs that had begun end as they would have; the next one says what happened, and nothing is scored."""
    laptop.npuq("datasets", "add", "going", str(drawn(laptop, "going", seed=43)), "--store")
    for chip in ("0", "1"):
        laptop.emulator("fault", chip, "slow", "--factor", "20")
    try:
        run_id = laptop.evaluate("going", None, "--fresh")
        wait_until(lambda: laptop.jobs(run_id, "infer"), "the run is planned", LIMIT_SECONDS)
        shards = {job["job_id"] for job in laptop.jobs(run_id, "infer")}
        wait_until(lambda: laptop.executions("run_end", shards), "a shard has begun", LIMIT_SECONDS)
        laptop.npuq("datasets", "remove", "going")
    finally:
        laptop.emulator("clear")
    laptop.wait(run_id, code=1)
    jobs = laptop.read("jobs", "list", "--run", run_id)
    errors = [job["error"] for job in jobs if job["error"] is not None]
    assert {(error["code"], error["blame"]) for error in errors} == {("dataset", "input")}
    assert "'going' was changed or removed since this run was planned" in errors[0]["message"]
    assert "succeeded" in {job["state"] for job in jobs if job["job_id"] in shards}
    assert all(job["state"] in FINAL_JOB_STATES for job in jobs)
    assert laptop.read("results", "list", "--run", run_id) == []
