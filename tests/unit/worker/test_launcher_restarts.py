"""A restart that the scheduler asks for is meant for a worker that has had time to answer."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from db.engine import Database, open_database
from npuq.config import Settings, Timing
from worker import launcher
from worker.launcher import Launcher, WorkerProcess, WorkerSpec
from worker.npu_smi_tool import NpuSmi

DEVICE = "h1.npu0.0"


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerProcess]:
    """Return a worker process that runs, but does nothing."""
    monkeypatch.setattr(
        launcher, "program_command", lambda _module: [sys.executable, "-c", "import signal; signal.pause()"]
    )
    process = WorkerProcess(WorkerSpec(name=DEVICE, devices=(DEVICE,), feeders=0), "h1")
    process.tend(100.0)
    yield process
    process.kill()


@pytest.fixture
def restarting(tmp_path: Path, worker: WorkerProcess) -> Any:
    """Return a launcher that keeps this worker."""
    settings = Settings(home=tmp_path, host_name="h1", timing=Timing())
    database: Database = open_database(f"sqlite:///{tmp_path / 'unused.sqlite3'}")
    found = Launcher(settings, database, NpuSmi(lock_path=tmp_path / "l", timeout_seconds=1.0, cache_seconds=0.0))
    found._workers[DEVICE] = worker
    return found


@pytest.mark.parametrize(("age_seconds", "killed"), [(0.5, False), (19.0, False), (21.0, True)])
def test_a_worker_that_just_started_is_not_restarted(
    restarting: Launcher, worker: WorkerProcess, age_seconds: float, *, killed: bool
) -> None:
    """A request from before its start once killed every worker of a launcher that had just come back."""
    restarting._restart(DEVICE, 100.0 + age_seconds)
    assert (worker.pid is None) is killed


def test_a_worker_that_does_not_run_has_no_age() -> None:
    """Its start is what it waits for."""
    never = WorkerProcess(WorkerSpec(name="host", devices=("h1.host.0",), feeders=0), "h1")
    assert [never.runs_since(now) for now in (0.0, 1e9)] == [0.0, 0.0]
