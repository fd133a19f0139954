"""The emulated `atc`: ONNX in, OM out, with the words, exit codes and litter of the real one.

The OM runs on the emulated runtime only. Exit code 0 and the success line, or 255 and an error block.
"""

import os
import signal
import sys
import time
from datetime import UTC, datetime
from typing import Final

from emulator import atc_log, diary
from emulator.atc_errors import AtcError
from emulator.diary import Event
from emulator.fleet import Fault, FaultKind, FleetFileError
from emulator.home import Home

_EXIT_FAILED: Final = 255
_FAILED: Final = "ATC run failed, Please check the detail log, Try 'atc --help' for more information"
_HELP: Final = """\
usage: atc --framework=5 --model=FILE.onnx --output=PATH --soc_version=Ascend310P3 [--input_shape="input:1,3,224,224"]
           [--input_format=NCHW] [--precision_mode=force_fp16] [--log=error] ...

Emulated by npuq: converts ONNX for the emulated chips; see emulator/atc_flags.py for all parameters.
"""


def main(arguments: list[str]) -> int:
    """Run the program; returns its exit code."""
    if arguments in (["--help"], ["-h"]):
        sys.stdout.write(_HELP)
        return 0
    try:
        home = Home.from_environment()
        toolkit_version = home.fleet().toolkit_version
    except FleetFileError as error:
        sys.stderr.write(f"atc (emulated): {error}\n")
        return _EXIT_FAILED
    _say("ATC start working now, please wait for a moment.")
    diary.note(home, Event.ATC_START)
    target = None
    try:
        _suffer(home)
        target = _convert(arguments, toolkit_version)
    except AtcError as error:
        _say(_FAILED)
        _say(error_block(error))
        return _EXIT_FAILED
    finally:
        diary.note(home, Event.ATC_END, model=target, ok=target is not None)
    _say("ATC run success, welcome to the next use.")
    return 0


def _convert(arguments: list[str], toolkit_version: str) -> str:
    """Convert and return the name of the OM; raises AtcError."""
    from emulator import atc_tuning
    from emulator.atc_flags import parse
    from emulator.conversion import convert

    threshold = "null"
    try:
        options = parse(arguments)
        threshold = options.log
        if options.tunes:
            _say(atc_tuning.announce())
        atc_log.write(threshold, "info", f"convert {options.model}", _now())
        return convert(options, toolkit_version).stem
    except AtcError as error:
        atc_log.write(threshold, "error", str(error), _now())
        raise


def _suffer(home: Home) -> None:
    """Let the faults of this host's atc happen: wait, die without a word, or fail; raises AtcError."""
    slow = _strike(home, FaultKind.ATC_SLOW)
    if slow is not None:
        time.sleep(slow.seconds)  # the wait is the fault
    killed = _strike(home, FaultKind.ATC_KILLED)
    if killed is not None:
        _die(killed.signal)
    failed = _strike(home, FaultKind.ATC_FAILED)
    if failed is not None:
        code, _, text = failed.text.partition(":")
        raise AtcError(code.strip(), text.strip())


def _die(number: int) -> None:
    """Die by a signal, also by one that Python ignores or would make an exception of."""
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _strike(home: Home, kind: FaultKind) -> Fault | None:
    fault = home.take_fault(None, kind)
    if fault is not None:
        diary.note(home, Event.FAULT, kind=kind.value)
    return fault


def _now() -> datetime:
    return datetime.now(UTC).astimezone()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def error_block(error: AtcError) -> str:
    """Return the error as ATC prints it: code, pid, time, text, solution, and where it was traced to."""
    lines = [f"{error.code}: [PID: {os.getpid()}] {atc_log.stamp(_now())} {error.text}"]
    if error.solution:
        lines.append(f"        Solution: {error.solution}")
    if error.trace:
        lines += ["        TraceBack (most recent call last):", f"        {error.trace}"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
