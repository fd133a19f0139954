"""What a sick host's atc does, as the person and the worker see it."""

import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from emulator.diary import read
from emulator.fleet import Fault, FaultKind
from emulator.home import Home


def suffer(home: Home, onnx_file: Path, command: Callable[..., list[str]], fault: Fault) -> tuple[int, str]:
    """Put a fault on the host, run atc as a program; returns exit status and output."""
    home.edit(lambda fleet: replace(fleet, faults=(fault,)))
    done = subprocess.run(
        [home.root / "bin" / "atc", *command(onnx_file, "m")], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_killed_atc_says_nothing_more(home: Home, onnx_file: Path, atc_command: Callable[..., list[str]]) -> None:
    """It dies by the signal after its first line, as under the kernel's out-of-memory killer, and is well again."""
    killed = Fault(device=None, kind=FaultKind.ATC_KILLED, count=1)
    status, output = suffer(home, onnx_file, atc_command, killed)
    assert status == -9
    assert output.splitlines() == ["ATC start working now, please wait for a moment."]
    assert home.fleet().faults == ()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGPIPE])
def test_an_atc_dies_by_signals_that_python_would_handle(
    home: Home, onnx_file: Path, atc_command: Callable[..., list[str]], number: signal.Signals
) -> None:
    """The real tool is no Python program: no exception, no word, and never ignored."""
    killed = Fault(device=None, kind=FaultKind.ATC_KILLED, signal=number)
    status, output = suffer(home, onnx_file, atc_command, killed)
    assert (status, len(output.splitlines())) == (-number, 1)


def test_a_failed_atc_prints_the_text(home: Home, onnx_file: Path, atc_command: Callable[..., list[str]]) -> None:
    """The error block has the code that was asked for; the diary knows of the fault."""
    text = "EC0010: Failed to import Python module [ModuleNotFoundError: No module named 'decorator'.]."
    failed = Fault(device=None, kind=FaultKind.ATC_FAILED, text=text)
    status, output = suffer(home, onnx_file, atc_command, failed)
    assert status == 255
    assert "EC0010: [PID: " in output
    assert "No module named 'decorator'" in output
    assert [entry["event"] for entry in read(home.diary_path)] == ["atc_start", "fault", "atc_end"]


def test_a_slow_atc_ends_well(home: Home, onnx_file: Path, atc_command: Callable[..., list[str]]) -> None:
    """It only takes longer."""
    slow = Fault(device=None, kind=FaultKind.ATC_SLOW, seconds=0.05, count=1)
    status, output = suffer(home, onnx_file, atc_command, slow)
    assert status == 0
    assert "ATC run success" in output
    start, fault, end = read(home.diary_path)
    assert end["monotonic"] - start["monotonic"] >= 0.05
    assert fault["kind"] == "atc_slow"
