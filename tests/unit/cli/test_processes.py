"""Only what was started here is ended, and records of the dead are forgotten."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cli.fleet.processes import ProcessTable, last_lines
from tests.services.waiting import wait_until

SLEEP = [sys.executable, "-c", "import signal; print('ready', flush=True); signal.pause()"]
STUBBORN = [
    *(sys.executable, "-c"),
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()",
]


@pytest.fixture
def table(tmp_path: Path) -> Iterator[ProcessTable]:
    """Return the processes of an empty home."""
    for name in ("run", "log"):
        (tmp_path / name).mkdir()
    table = ProcessTable(tmp_path / "run", tmp_path / "log")
    yield table
    table.end("sleeper", grace_seconds=0.0)


def _start(table: ProcessTable, command: list[str]) -> psutil.Process:
    record = table.start("sleeper", command, environment=os.environ, folder=Path("/"))
    wait_until(lambda: "ready" in last_lines(table.log_path("sleeper"), 1), "the process says that it is ready")
    process = record.process()
    assert process is not None
    return process


@pytest.mark.parametrize("command", [SLEEP, STUBBORN], ids=["willing", "ignores TERM"])
def test_a_started_process_is_known_and_ended(command: list[str], table: ProcessTable) -> None:
    """TERM if that is enough, KILL if not; afterwards there is neither process nor record."""
    process = _start(table, command)
    found = table.find("sleeper")
    assert found is not None
    assert found.pid == process.pid
    assert os.getsid(process.pid) == process.pid
    assert table.end("sleeper", grace_seconds=0.2)
    assert not psutil.pid_exists(process.pid)
    assert table.find("sleeper") is None
    assert not table.end("sleeper", grace_seconds=0.0)


def test_a_crashed_process_is_forgotten(table: ProcessTable) -> None:
    """Its record must not keep `up` from starting another."""
    process = _start(table, SLEEP)
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: table.find("sleeper") is None, "the record of the dead process is forgotten")


def test_a_stranger_with_the_same_pid_is_never_touched(table: ProcessTable, tmp_path: Path) -> None:
    """The pid matches, the start time does not: somebody else's process, which lives on."""
    with subprocess.Popen(SLEEP, stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        table.adopt("sleeper", stranger.pid, command=SLEEP)
        path = tmp_path / "run" / "sleeper.json"
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"create_time": record["create_time"] - 60}))
        assert not table.end("sleeper", grace_seconds=0.0)
        assert stranger.poll() is None
        assert table.find("sleeper") is None
        stranger.kill()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x"}'])
def test_a_damaged_record_is_no_process(text: str, table: ProcessTable, tmp_path: Path) -> None:
    """A crash in the middle of writing must not end every later command."""
    (tmp_path / "run" / "sleeper.json").write_text(text)
    assert table.find("sleeper") is None


def test_logs_of_earlier_starts_are_kept(table: ProcessTable, tmp_path: Path) -> None:
    """Three of them; what came before is dropped."""
    log = table.log_path("sleeper")
    for number in range(4):
        _start(table, SLEEP)
        table.end("sleeper", grace_seconds=5.0)
        log.write_text(f"start {number}")
    _start(table, SLEEP)
    kept = sorted(path.name for path in (tmp_path / "log").iterdir())
    assert kept == ["sleeper.log", "sleeper.log.1", "sleeper.log.2", "sleeper.log.3"]
    assert (tmp_path / "log" / "sleeper.log.1").read_text() == "start 3"
