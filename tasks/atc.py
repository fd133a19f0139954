"""Runs `atc`: typed options to an argument list, one private folder, and a verdict on three witnesses.

Never a shell, never an option that is not in `AtcOptions`. What to convert, and why, is `tasks.convert`'s business.
"""

import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from npuq.errors import InvalidRequestError, ToolMissingError
from npuq.specs import ATC_PRECISION_MODE
from tasks.ascend_errors import atc_error

OM_MAGIC: Final = b"IMOD"
SUCCESS: Final = "ATC run success"
_KEPT_LINES: Final = 400
_ONNX: Final = 5
_SOC_VERSION: Final = re.compile(r"Ascend[0-9][0-9A-Za-z_-]{1,30}")
_INPUT_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")


@dataclass(frozen=True, kw_only=True)
class AtcOptions:
    """What `atc` is told; every value is checked when it is built.

    Attributes:
        model: the ONNX file, absolute.
        output: where the OM goes, absolute and without `.om`.
        input_shapes: input name -> static shape.
        soc_version: for example `Ascend310P3`.
        precision_mode: a value of `ATC_PRECISION_MODE`.

    Raises:
        InvalidRequestError: a value that `atc` must not see.
    """

    model: Path
    output: Path
    input_shapes: Mapping[str, tuple[int, ...]]
    soc_version: str
    precision_mode: str

    def __post_init__(self) -> None:
        if not (self.model.is_absolute() and self.output.is_absolute()):
            raise InvalidRequestError("ATC is given absolute paths only")
        if not _SOC_VERSION.fullmatch(self.soc_version):
            raise InvalidRequestError(f"{self.soc_version!r} is not a soc_version; write it as in Ascend310P3")
        if self.precision_mode not in ATC_PRECISION_MODE.values():
            raise InvalidRequestError(f"{self.precision_mode!r} is not a precision mode of ATC that npuq uses")
        for name, shape in self.input_shapes.items():
            if not _INPUT_NAME.fullmatch(name) or not shape or min(shape) < 1:
                raise InvalidRequestError(f"input {name!r} with shape {shape} cannot be given to ATC")

    def arguments(self) -> list[str]:
        """Return the argument list, without the program."""
        shapes = ";".join(f"{name}:{','.join(map(str, shape))}" for name, shape in self.input_shapes.items())
        images = all(len(shape) == len("NCHW") for shape in self.input_shapes.values())
        options = {
            "framework": _ONNX,
            "model": self.model,
            "output": self.output,
            "input_format": "NCHW" if images else "ND",
            "input_shape": shapes,
            "soc_version": self.soc_version,
            "precision_mode": self.precision_mode,
            "log": "error",
        }
        return [f"--{key}={value}" for key, value in options.items()]


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


def run_atc(atc: Path, options: AtcOptions, *, cwd: Path, environment: Mapping[str, str]) -> Conversion:
    """Convert; what `atc` prints also goes to this process's stdout.

    Args:
        atc: the program.
        options: what to convert.
        cwd: a private folder: conversions litter it, and disturb each other in a shared one.
        environment: see `tasks.cann.atc_environment`.

    Raises:
        ToolError: `atc` failed, with its own code and its last lines.
        ToolMissingError: the program cannot be started.
    """
    command = (str(atc), *options.arguments())
    started = time.monotonic()
    status, output, said_success = _listen(command, cwd, environment)
    seconds = time.monotonic() - started
    om = _written(options.output)
    if status != 0:
        raise atc_error(output, _exit_text(status))
    if not said_success:
        raise atc_error(output, "exit status 0, but it does not report success")
    if om is None:
        raise atc_error(output, "it reports success, but wrote no OM file")
    return Conversion(om=om, command=command, seconds=seconds)


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
