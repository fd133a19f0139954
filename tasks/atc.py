"""Runs `atc`: an argument list, one private folder, and a verdict on three witnesses.

Never a shell. What to convert, and how, is the business of `tasks.atc_command` and `tasks.convert`.
"""

import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from npuq.errors import ToolMissingError
from tasks.ascend_errors import atc_error
from tasks.atc_command import AtcCommand

OM_MAGIC: Final = b"IMOD"
SUCCESS: Final = "ATC run success"
OUT_OF_MEMORY: Final = "atc_out_of_memory"
"""Code of the error when the host's memory did not suffice; see `tasks.ascend_errors`."""
_KEPT_LINES: Final = 400


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A successful run.

    Attributes:
        om: the file written.
        command: the command line, as a list.
        seconds: how long it took.
    """

    om: Path
    command: tuple[str, ...]
    seconds: float


def run_atc(atc: Path, command: AtcCommand, *, cwd: Path, environment: Mapping[str, str]) -> Conversion:
    """Convert; what `atc` prints also goes to this process's stdout.

    Args:
        atc: the program.
        command: what to convert.
        cwd: a private folder: conversions litter it, and disturb each other in a shared one.
        environment: see `tasks.atc_environment`.

    Raises:
        ToolError: `atc` failed, with its own code and its last lines.
        ToolMissingError: the program cannot be started.
    """
    line = (str(atc), *command.arguments())
    started = time.monotonic()
    status, output, said_success = _listen(line, cwd, environment)
    seconds = time.monotonic() - started
    om = _written(command.output)
    if status != 0:
        raise atc_error(output, _exit_text(status))
    if not said_success:
        raise atc_error(output, "exit status 0, but it does not report success")
    if om is None:
        raise atc_error(output, "it reports success, but wrote no OM file")
    return Conversion(om=om, command=line, seconds=seconds)


def _listen(command: tuple[str, ...], cwd: Path, environment: Mapping[str, str]) -> tuple[int, str, bool]:
    """Run to the end; returns exit status, last lines, and whether the success line was anywhere."""
    last: deque[str] = deque(maxlen=_KEPT_LINES)
    said_success = False
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise ToolMissingError(f"`atc` at {command[0]} cannot be started: {error}. Repair the CANN toolkit.") from error
    with process:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        for line in process.stdout:
            sys.stdout.write(line)
            last.append(line)
            said_success |= SUCCESS in line  # newer versions print warnings after it
    return process.returncode, "".join(last), said_success


def _written(output: Path) -> Path | None:
    """Return the OM: models that carry host code get a suffix with the host's architecture."""
    candidates = [output.with_name(f"{output.name}.om"), *sorted(output.parent.glob(f"{output.name}_linux_*.om"))]
    return next((path for path in candidates if path.is_file() and _is_om(path)), None)


def _is_om(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(OM_MAGIC)) == OM_MAGIC


def _exit_text(status: int) -> str:
    if status in (-9, 137):
        return "killed; Out of memory is the usual reason"
    return f"signal {-status}" if status < 0 else f"exit status {status}"
