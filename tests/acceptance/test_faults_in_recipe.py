"""What goes wrong in a recipe's own way, seen from the command line: a clear sentence, the right blame, others go on.

One fleet of two emulated chips that really compute, shared with other modules; tests run in any order.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any, Final

import psutil
import pytest
from sqlalchemy import Connection, select

from db import runs
from db.types import db_now
from tasks.demo_data import RECIPE
from tests.acceptance.conftest import PICTURES
from tests.fleet.laptop import LIMIT_SECONDS, Laptop
from tests.fleet.models import write_tiny_onnx
from tests.services.waiting import wait_until

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(180),
]

CANCELLED_WITHIN_SECONDS: Final = 5.0


@pytest.fixture
def undisturbed(laptop: Laptop) -> dict[str, Any]:
    """Return the accuracy that a run has when nothing happens to it."""
    run_id = laptop.evaluate()
    laptop.wait(run_id)
    return laptop.accuracy(run_id)


@pytest.fixture
def slow_chips(laptop: Laptop) -> Iterator[None]:
    """Let every execution take long enough to do something in the middle of it."""
    for chip in ("0", "1"):
        laptop.emulator("fault", chip, "slow", "--factor", "20")
    yield
    laptop.emulator("clear")


# --- losses ----------------------------------------------------------------------------------------------------------


def test_a_killed_device_process_changes_no_score(
    laptop: Laptop, undisturbed: dict[str, Any], slow_chips: None
) -> None:
    """The shard is done again: the same accuracy, every sample counted once."""
    run_id = laptop.evaluate("demo", None, "--fresh")
    wait_until(lambda: laptop.jobs(run_id, "infer"), "the run is planned", LIMIT_SECONDS)
    shards = {job["job_id"] for job in laptop.jobs(run_id, "infer")}
    wait_until(lambda: len(laptop.executions("run_end", shards)) >= 2, "a shard is half done", LIMIT_SECONDS)
    os.kill(laptop.executions("run_end", shards)[-1]["pid"], signal.SIGKILL)
    laptop.emulator("clear")  # what is done again need not be slow
    laptop.wait(run_id)
    disturbed = laptop.accuracy(run_id)
    assert max(job["attempt"] for job in laptop.jobs(run_id, "infer")) == 2
    assert disturbed["metrics"] == undisturbed["metrics"]
    assert disturbed["samples"] == undisturbed["samples"] == PICTURES


def test_a_cancel_frees_the_chip_of_a_running_job(laptop: Laptop, slow_chips: None) -> None:
    """By the database's clock, within five seconds; the process that held the chip is gone, the chip is free."""
    onnx = write_tiny_onnx(laptop.folder / "endless.onnx", seed=1)
    run_id = laptop.submit("benchmark", "--onnx", str(onnx), "--loops", "1000000")
    wait_until(lambda: laptop.jobs(run_id, "benchmark"), "the run is planned", LIMIT_SECONDS)
    job_id = laptop.jobs(run_id, "benchmark")[0]["job_id"]
    wait_until(lambda: laptop.executions("run_start", {job_id}), "the chip computes", LIMIT_SECONDS)
    owner = laptop.executions("run_start", {job_id})[-1]["pid"]
    asked_at = laptop.fleet.client.database.transact(partial(_cancel, run_id=run_id))
    laptop.wait(run_id, code=1)
    (job,) = laptop.jobs(run_id, "benchmark")
    assert job["state"] == "cancelled"
    ended_at = datetime.fromisoformat(job["finished_at"])
    assert (ended_at - asked_at).total_seconds() < CANCELLED_WITHIN_SECONDS
    assert not psutil.pid_exists(owner)
    states = {device["device_id"]: device["state"] for device in laptop.read("devices", "list")}
    assert states[job["device_id"]] == "online"


def _cancel(connection: Connection, run_id: str) -> datetime:
    """Do what `npuq cancel` does once it has started; returns when, by the clock that the end is told by."""
    now: datetime = connection.execute(select(db_now())).scalar_one()
    runs.cancel(connection, run_id)
    return now


# --- a clear sentence ------------------------------------------------------------------------------------------------


def test_an_onnx_with_another_input_name_is_named_as_the_reason(laptop: Laptop) -> None:
    """ATC's own last lines are shown, what hung on the conversion is skipped, and another run goes on."""
    good = laptop.submit("benchmark", "--onnx", str(write_tiny_onnx(laptop.folder / "good.onnx")), "--loops", "3")
    bad = laptop.submit("benchmark", "--onnx", str(write_tiny_onnx(laptop.folder / "bad.onnx", "data")))
    laptop.wait(bad, code=1)
    laptop.wait(good)
    (convert,), (benchmark,) = laptop.jobs(bad, "convert"), laptop.jobs(bad, "benchmark")
    assert (convert["state"], benchmark["state"]) == ("failed", "skipped")
    assert (convert["error"]["blame"], convert["attempt"]) == ("input", 1)
    told = laptop.npuq("why", bad).stdout
    assert "the ONNX must have the recipe's inputs" in " ".join(told.split())
    assert "ATC run failed" in told
    assert "parameter [data]" in told
    assert "parameter [data]" in laptop.npuq("logs", bad).stdout


def test_a_picture_that_cannot_be_read_is_named(laptop: Laptop) -> None:
    """The job fails at once, with the file's name and what to do; no result appears, and doing what it says helps."""
    root = laptop.folder / "broken"
    shutil.copytree(laptop.demo.dataset_root, root)
    picture = sorted(root.rglob("*.JPEG"))[3]
    original = picture.read_bytes()
    picture.write_bytes(b"no picture")
    laptop.add_dataset("broken", root)
    run_id = laptop.evaluate("broken")
    laptop.wait(run_id, code=1)
    failed = [job for job in laptop.jobs(run_id, "infer") if job["state"] == "failed"]
    assert [(job["error"]["blame"], job["attempt"]) for job in failed] == [("input", 1)]
    assert picture.name in failed[0]["error"]["message"]
    assert "register the folder again (npuq datasets add) and submit the run again" in failed[0]["error"]["message"]
    assert "npuq retry" not in laptop.npuq("why", failed[0]["job_id"]).stdout
    assert laptop.read("results", "list", "--run", run_id) == []
    picture.write_bytes(original)
    laptop.add_dataset("broken", root)
    again = laptop.evaluate("broken")
    laptop.wait(again)
    assert laptop.accuracy(again)["samples"] == PICTURES


def test_a_picture_replaced_after_registration_gives_no_number(laptop: Laptop) -> None:
    """Its size is the same, so only the content tells; `verify` shows the file, and restoring it helps."""
    root = laptop.folder / "swapped"
    shutil.copytree(laptop.demo.dataset_root, root)
    min(root.rglob("*.JPEG")).unlink()  # its content differs from that of every other dataset
    laptop.add_dataset("swapped", root)
    picture = max(root.rglob("*.JPEG"))
    original = picture.read_bytes()
    picture.write_bytes(original[:-3] + bytes([original[-3] ^ 1]) + original[-2:])
    run_id = laptop.evaluate("swapped")
    laptop.wait(run_id, code=3)
    failed = [job for job in laptop.jobs(run_id, "infer") if job["state"] == "failed"]
    assert [(job["error"]["code"], job["error"]["blame"]) for job in failed] == [("dataset_changed", "host")]
    assert f"{picture} of the dataset 'swapped' on host h1" in failed[0]["error"]["message"]
    assert laptop.read("results", "list", "--run", run_id) == []
    assert picture.name in laptop.npuq("datasets", "verify", "swapped", code=1).stdout
    picture.write_bytes(original)
    again = laptop.evaluate("swapped")
    laptop.wait(again)
    assert laptop.accuracy(again)["samples"] == laptop.demo.samples - 1


def test_a_checkpoint_with_wrong_keys_is_refused_with_the_keys(laptop: Laptop) -> None:
    """The export fails once; the sentence counts what is missing and names what is not expected."""
    import torch

    weights = laptop.folder / "wrong.pth"
    torch.save({"state_dict": {"stranger.weight": torch.zeros(1)}}, weights)
    run_id = laptop.evaluate("demo", weights)
    laptop.wait(run_id, code=1)
    (export,) = laptop.jobs(run_id, "export")
    assert (export["state"], export["error"]["blame"], export["attempt"]) == ("failed", "input", 1)
    assert "stranger.weight" in export["error"]["message"]
    assert "model.0.0.weight" in export["error"]["message"]


def test_a_dataset_folder_that_is_not_on_the_worker_is_the_hosts_fault(laptop: Laptop) -> None:
    """The only host refuses the job; it fails and says where the folder should be, instead of waiting for ever."""
    root = laptop.folder / "moved"
    shutil.copytree(laptop.demo.dataset_root, root)
    max(root.rglob("*.JPEG")).unlink()  # its content differs from that of every other dataset
    laptop.add_dataset("moved", root)
    shutil.rmtree(root)
    run_id = laptop.evaluate("moved")
    laptop.wait(run_id, code=3)
    failed = [job for job in laptop.jobs(run_id, "infer") if job["state"] == "failed"]
    assert failed
    assert {job["error"]["blame"] for job in failed} == {"host"}
    assert str(root) in failed[0]["error"]["message"]
    assert "Mount or copy it there" in failed[0]["error"]["message"]


@pytest.mark.parametrize(
    ("recipe", "dataset", "sentence"),
    [
        ("mobilenet_v2", "demo", "There is no recipe 'mobilenet_v2'. Did you mean 'mobilenet_v1'?"),
        (RECIPE, "imagenet", "no dataset 'imagenet' is registered; known: "),
    ],
    ids=["recipe", "dataset"],
)
def test_what_is_not_known_is_refused_before_anything_is_sent(
    laptop: Laptop, recipe: str, dataset: str, sentence: str
) -> None:
    """A usage error: exit code 2, nothing on standard output, and no run."""
    before = len(laptop.read("runs", "list"))
    weights = str(laptop.demo.weights)
    refused = laptop.npuq("submit", "evaluate", recipe, "--weights", weights, "--dataset", dataset, code=2)
    assert refused.stdout == ""
    assert sentence in " ".join(refused.stderr.split())
    assert len(laptop.read("runs", "list")) == before
