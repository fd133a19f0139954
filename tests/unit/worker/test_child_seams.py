"""The small pure parts around child processes: who is to blame, what a child may know, how messages travel."""

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npuq.errors import Blame, DatasetError
from tasks.steps import DeviceRef
from worker.child_losses import describe_loss
from worker.child_protocol import STEP_FUNCTIONS, ChildSettings
from worker.chip_watch import chip_state
from worker.interpreter import job_environment, program_command
from worker.json_lines import ChannelClosedError, JsonLines
from worker.npu_smi import Chip, NpuSmiInfo, Process
from worker.step_errors import error_info

DEVICE = DeviceRef(device_id="h-4", npu_id=4, chip_id=1, logic_id=0, soc_version="Ascend310P3", emulated=False)


@pytest.mark.parametrize(
    ("returncode", "on_chip", "blame", "words"),
    [
        (-signal.SIGKILL, True, Blame.HOST, "killed by SIGKILL.*out-of-memory killer"),
        (-signal.SIGSEGV, True, Blame.DEVICE, "killed by SIGSEGV.*npu-smi"),
        (-signal.SIGABRT, False, Blame.HOST, "killed by SIGABRT"),
        (-40, True, Blame.HOST, "signal 40"),
        (1, True, Blame.HOST, "exited with status 1"),
        (None, True, Blame.HOST, "could not be ended.*operator"),
    ],
)
def test_a_lost_child_is_blamed_on_who_lost_it(
    *, returncode: int | None, on_chip: bool, blame: Blame, words: str
) -> None:
    """A native crash beside a chip is the chip's, a kill never is; the message says what to do."""
    info = describe_loss(
        name="c", on_chip=on_chip, returncode=returncode, on_request=False, reason="end of stream", tail="last"
    )
    assert (info.blame, info.retry, info.detail) == (blame, True, "last")
    import re

    assert re.search(words, info.message)


@pytest.mark.parametrize(
    ("error", "code", "blame", "retry"),
    [
        (DatasetError("x"), "dataset", Blame.INPUT, False),
        (MemoryError(), "host_memory", Blame.HOST, True),
        (OSError(errno.ENOSPC, "No space left on device"), "host_disk_full", Blame.HOST, True),
        (OSError(errno.EIO, "Input/output error"), "internal", Blame.HOST, True),
        (KeyError("x"), "internal", Blame.HOST, True),
    ],
)
def test_exceptions_become_values(*, error: Exception, code: str, blame: Blame, retry: bool) -> None:
    """What npuq raises on purpose passes unchanged, the rest is the host's."""
    info = error_info(error)
    assert (info.code, info.blame, info.retry) == (code, blame, retry)


def test_the_environment_is_an_allow_list() -> None:
    """Where broker and database are is not for children, nor is what renumbers chips."""
    surroundings = {
        "PATH": "/bin",
        "ASCEND_TOOLKIT_HOME": "/t",
        "OMP_NUM_THREADS": "2",
        "NPUQ_EMULATOR_HOME": "/e",
        "NPUQ_BROKER_URL": "redis://:secret@h",
        "NPUQ_DATABASE_URL": "postgresql://u:secret@h/d",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "ASCEND_RT_VISIBLE_DEVICES": "3",
        "LD_PRELOAD": "x.so",
    }
    assert job_environment(surroundings).keys() == {
        "PATH",
        "ASCEND_TOOLKIT_HOME",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "NPUQ_EMULATOR_HOME",
    }


def test_numpy_starts_no_threads_unless_told() -> None:
    """A person's own number counts."""
    assert job_environment({})["OPENBLAS_NUM_THREADS"] == "1"
    assert job_environment({"OPENBLAS_NUM_THREADS": "4"})["OPENBLAS_NUM_THREADS"] == "4"


def test_a_program_of_ours_runs_from_anywhere(tmp_path: Path) -> None:
    """The command line needs neither the current directory nor PYTHONPATH."""
    (tmp_path / "worker.py").write_text("raise SystemExit('shadowed')")
    command = [*program_command("worker.feeder_main"), "--help"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--channel-fd" in done.stdout
    assert command[0] == sys.executable


def test_settings_survive_the_command_line() -> None:
    """What the child reads is what the worker wrote."""
    settings = ChildSettings(
        name="c",
        device=DEVICE,
        lock_fd=7,
        feeders=2,
        sample_cache=Path("/cache"),
        sample_cache_bytes=1,
        tool_timeout_seconds=2.5,
        npu_smi_lock=Path("/lock"),
        steps=STEP_FUNCTIONS,
    )
    assert ChildSettings.from_json(settings.to_json()) == settings


def chip(**changes: object) -> Chip:
    """Return a healthy chip at the device's place."""
    values: dict[str, object] = dict.fromkeys(Chip.__dataclass_fields__)
    values |= {"npu_id": 4, "chip_id": 1, "name": "310P3", "health": "OK", "memory_used_mb": 900}
    return Chip(**(values | changes))  # type: ignore[arg-type]


def process(pid: int, name: str = "other", **changes: object) -> Process:
    """Return a row of the process table at the device's place."""
    values = {"npu_id": 4, "chip_id": 1, "pid": pid, "name": name, "memory_mb": 5, "container_pid": None}
    return Process(**(values | changes))  # type: ignore[arg-type]


def test_strangers_on_the_chip_are_told_from_ourselves_and_from_neighbours() -> None:
    """Our own rows, also by the container's numbering, and those of other chips do not count."""
    rows = (
        process(os.getpid()),
        process(999_999_991, container_pid=os.getpid()),
        process(999_999_992, name=psutil.Process().name()[:15]),
        process(1, chip_id=0),
        process(1, npu_id=5),
        process(1, name="stranger"),
        process(1, name="whole card", chip_id=None),
    )
    state = chip_state(NpuSmiInfo(ok=True, chips=(chip(),), processes=rows), DEVICE)
    assert state.foreign_processes == ("stranger (pid 1)", "whole-card (pid 1)")
    assert (state.health, state.memory_used_mib, state.processes_visible) == ("OK", 900, True)


def test_a_chip_that_is_not_shown_is_unknown_and_hbm_counts_where_there_is_some() -> None:
    """Unknown is never idle; on a 910 the memory that matters is HBM."""
    assert chip_state(NpuSmiInfo(ok=True, chips=(chip(chip_id=0),)), DEVICE).health is None
    state = chip_state(NpuSmiInfo(ok=True, chips=(chip(hbm_used_mb=3000, hbm_total_mb=65536),)), DEVICE)
    assert (state.memory_used_mib, state.processes_visible) == (3000, False)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=50)), max_size=5))
def test_messages_arrive_as_they_were_sent(messages: list[dict[str, object]]) -> None:
    """In order, whatever they hold."""
    left, right = (JsonLines(end) for end in socket.socketpair())
    for message in messages:
        left.send(message)
    assert [right.receive(5) for _ in messages] == messages
    left.close()
    with pytest.raises(ChannelClosedError):
        right.receive(5)
    right.close()


@pytest.mark.parametrize("line", [b"not json\n", b"[1]\n", b"\xff\n"])
def test_nonsense_ends_the_conversation(line: bytes) -> None:
    """A peer that does not speak the protocol is as good as gone."""
    left, right = socket.socketpair()
    with left:
        left.sendall(line)
        reader = JsonLines(right)
        with pytest.raises(ChannelClosedError):
            reader.receive(5)
        reader.close()


def test_silence_has_a_limit() -> None:
    """A wait without a message ends in time."""
    left, right = socket.socketpair()
    with left:
        reader = JsonLines(right)
        left.sendall(b'{"unfinished": ')
        with pytest.raises(TimeoutError):
            reader.receive(0.01)
        reader.close()
