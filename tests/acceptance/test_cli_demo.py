"""The main job through the command line alone: the demo, then its fleet as a person would go on using it."""

import re
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final

import pytest

from cli.demonstration import BENCHMARK_LOOPS
from db import job_queries
from npuq.client import Client
from npuq.config import Settings
from npuq.states import JobKind, JobState
from tests.acceptance.program import Program
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

IMAGES: Final = 80
DesignRun = {"run_id", "name", "state", "created_at", "finished_at", "jobs"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home of this module's demo."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(home: Path) -> Iterator["CompletedProcess[str]"]:
    """Return what the demo said; its fleet runs until the last of these tests."""
    try:
        yield Program(home=home)("demo", "--batch-sizes", "1,8", "--images", str(IMAGES), "--keep")
    finally:
        Program(home=home / "demo")("down")


@pytest.fixture(scope="module")
def npuq(demo: "CompletedProcess[str]", home: Path) -> Iterator[Program]:
    """Return the command line in the demo's home."""
    assert demo.returncode == 0
    with Program(home=home / "demo").warmed() as program:
        yield program


@pytest.fixture
def demo_run(demo: "CompletedProcess[str]") -> str:
    """Return the demo's run; other tests submit more."""
    found = re.search(r"the run is ([0-9a-f-]{36})", demo.stderr)
    assert found is not None
    return found[1]


@pytest.fixture
def weights(npuq: Program) -> str:
    """Return the demo's checkpoint."""
    (found,) = (npuq.home / "data").glob("*.pth*")
    return str(found)


def test_the_demo_prints_the_guides_table_and_agrees_with_torch(demo: "CompletedProcess[str]") -> None:
    """The table on stdout; what a person should know on stderr."""
    header, _, *rows = demo.stdout.splitlines()
    assert header.split() == ["Chip", "Batch", "size", "Dataset", "Top-1", "%", "Top-5", "%", "fps", "Remark"]
    assert [row.split()[:3] for row in rows] == [["Ascend310P3", "(emulated)", size] for size in ("1", "8")]
    assert "They agree: the same class on" in demo.stderr
    assert "What to type next" in demo.stderr


def test_results_read_back_as_documented(npuq: Program, demo_run: str) -> None:
    """Accuracy and throughput of both batch sizes, all marked emulated."""
    run = npuq.json("runs", "show", demo_run)
    assert set(run) >= DesignRun
    assert run["state"] == "succeeded"
    assert list(run["jobs"]) == ["succeeded"]
    results = npuq.json("results", "list", "--run", run["run_id"])
    assert sorted((item["kind"], item["batch_size"]) for item in results) == [
        *(("accuracy", 1), ("accuracy", 8)),
        *(("performance", 1), ("performance", 8)),
    ]
    assert all(item["emulated"] for item in results)
    (accuracy, _) = (item for item in results if item["kind"] == "accuracy")
    assert accuracy["metrics"]["top1"] > 70, "a mistake anywhere in the chain shows as a drop"
    assert accuracy["samples"] == IMAGES


def test_equal_work_is_reused_and_the_id_alone_is_on_stdout(npuq: Program, demo_run: str, weights: str) -> None:
    """The same sweep again does nothing anew, and has the same results."""
    before = npuq.json("results", "list", "--run", demo_run)
    again = npuq(
        "sweep",
        "mobilenet_v1",
        "--weights",
        weights,
        "--dataset",
        "demo",
        "--batch-sizes",
        "1",
        "--loops",
        str(BENCHMARK_LOOPS),
    )
    run_id = again.stdout.strip()
    npuq("wait", run_id, "--timeout", "60s")
    jobs = npuq.json("jobs", "list", "--run", run_id)
    assert all(job["reused_from"] for job in jobs)
    kept = {result["result_id"] for result in npuq.json("results", "list", "--run", run_id)}
    assert kept < {result["result_id"] for result in before}


def test_a_wrong_checkpoint_fails_with_its_reason_and_nothing_hangs(npuq: Program, tmp_path: Path) -> None:
    """Exit code 1, the sentence of the step, and everything behind it skipped."""
    wrong = tmp_path / "wrong.pth"
    wrong.write_bytes(b"no checkpoint at all")
    answer = npuq("submit", "benchmark", "mobilenet_v1", "--weights", str(wrong), "--watch", code=1)
    assert "export: failed" in answer.stderr
    run_id = answer.stdout.strip()
    export, *others = npuq.json("jobs", "list", "--run", run_id)
    assert (export["state"], export["error"]["blame"]) == ("failed", "input")
    assert {job["state"] for job in others} == {"skipped"}
    assert "to blame: what was submitted" in npuq("why", run_id).stdout


def is_running(client: Client, run_id: str) -> bool:
    """Tell whether a run's benchmark is being done; without a program for every look."""
    with client.database.read() as connection:
        found = job_queries.find(connection, run_id=run_id, kind=JobKind.BENCHMARK)
    return any(job.state is JobState.RUNNING for job in found)


def test_letting_go_of_a_run_and_cancelling_it_frees_the_chip(npuq: Program, weights: str) -> None:
    """Ctrl-C ends `watch` with 130 and the way back; a cancel reaches the running job."""
    long = ("--batch-size", "1", "--fresh", "--loops", "1000000")
    run_id = npuq("submit", "benchmark", "mobilenet_v1", "--weights", weights, *long).stdout.strip()

    with closing(Client(Settings(home=npuq.home))) as client:
        wait_until(lambda: is_running(client, run_id), "the benchmark runs", timeout=60.0)
    with npuq.start("watch", run_id) as watch:
        assert watch.stderr is not None
        first = watch.stderr.readline()
        watch.send_signal(signal.SIGINT)
        _, rest = watch.communicate(timeout=60)
    assert first
    assert watch.returncode == 130
    assert f"npuq watch {run_id}" in rest
    npuq("cancel", run_id)
    npuq("wait", run_id, "--timeout", "30s", code=1)
    assert npuq.json("runs", "show", run_id)["state"] == "cancelled"
    assert {chip["state"] for chip in npuq.json("devices", "list")} == {"online"}


def test_logs_of_finished_jobs_come_from_the_store(npuq: Program) -> None:
    """ATC's own words are kept."""
    done = npuq.json("jobs", "list", "--kind", "convert", "--state", "succeeded")
    job = next(job for job in done if job["reused_from"] is None)
    assert "ATC run success" in npuq("logs", job["job_id"]).stdout
