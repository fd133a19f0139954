"""`npuq up`, `status`, `down`: idempotent, over crashed predecessors, and without a trace afterwards."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.program import Program
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


@pytest.fixture
def npuq(tmp_path: Path) -> Iterator[Program]:
    """Return the command line in an empty home; its fleet is stopped afterwards."""
    with Program(home=tmp_path).warmed() as program:
        yield program
        program("down")


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: _gone(pid), f"process {pid} is gone")


def test_a_fleet_goes_up_survives_crashes_and_goes_down(npuq: Program) -> None:
    """What runs is left running, what crashed is started again, and down leaves nothing behind."""
    assert "the fleet is up" in npuq("up", "--emulate", "2", "--timed").stderr
    status = npuq.json("status")
    assert status["up"] is True
    assert status["devices"] == {"online": 2}
    assert all(chip["emulated"] for chip in npuq.json("devices", "list"))
    first = npuq.pids()

    assert "up already" in npuq("up", "--emulate", "2", "--timed").stderr
    assert npuq.pids() == first
    assert "npuq down" in npuq("up", "--emulate", "3", code=2).stderr

    _kill(first["scheduler"])
    assert npuq.json("status", code=3)["up"] is False
    npuq("up", "--emulate", "2", "--timed")
    second = npuq.pids()
    assert second["scheduler"] not in {None, first["scheduler"]}
    assert (second["redis"], second["worker"]) == (first["redis"], first["worker"])

    for role in ("worker", "scheduler", "redis"):
        _kill(second[role])
    assert (npuq.home / "run" / "redis.sock").exists()
    npuq("up", "--emulate", "2", "--timed")
    third = {pid for pid in npuq.pids().values() if pid is not None}
    assert len(third) == 3

    link = npuq.home.with_name("another-way-there")
    link.symlink_to(npuq.home)
    (npuq.home / "run" / "redis.json").unlink()
    Program(home=link)("up", "--emulate", "2", "--timed")
    assert {pid for pid in npuq.pids().values() if pid is not None} == third
    (npuq.home / "run" / "redis.json").unlink()  # so that down has to find the server by its data

    family = [child.pid for pid in third for child in psutil.Process(pid).children(recursive=True)]
    assert npuq("down").stderr == "stopped worker\nstopped scheduler\nstopped redis\n"
    assert all(_gone(pid) for pid in [*third, *family])
    assert "nothing" in npuq("down").stderr
    assert len(npuq.json("devices", "list")) == 2, "what was known of the fleet is kept"


def test_a_part_that_does_not_come_up_is_an_error_with_its_log(npuq: Program) -> None:
    """Exit code 3, the role, its last lines, and where the rest of them is."""
    (npuq.home / "redis").mkdir()
    (npuq.home / "redis" / "appendonlydir").write_text("a file where the server wants a folder")
    answer = npuq("up", "--emulate", "1", code=3)
    assert "redis ended at once" in answer.stderr
    assert str(npuq.home / "log" / "redis.log") in answer.stderr
    assert "  | " in answer.stderr
