"""Finds CANN on this host: where the toolkit is, which version, where `atc` is, and what `atc` needs to run.

CANN does not come from PyPI. Nothing here runs anything.
"""

import os
import platform
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from npuq.errors import ToolMissingError

TOOLKIT_VARIABLE: Final = "ASCEND_TOOLKIT_HOME"
USUAL_TOOLKITS: Final = (Path("/usr/local/Ascend/ascend-toolkit/latest"), Path("/usr/local/Ascend/cann"))
_DRIVER_LIBRARIES: Final = (
    Path("/usr/local/Ascend/driver/lib64/driver"),
    Path("/usr/local/Ascend/driver/lib64/common"),
    Path("/usr/local/Ascend/driver/lib64"),
)
_HAL: Final = "libascend_hal.so"
_VERSION: Final = re.compile(r"^version\s*=\s*\[?([0-9A-Za-z._-]+)", re.IGNORECASE | re.MULTILINE)
_MAX_COMPILE_PROCESSES: Final = 8
_ADVICE: Final = (
    "Install the CANN toolkit and source its set_env.sh before starting the worker, or, without a card, start an "
    "emulated fleet."
)


def find_toolkit(environment: Mapping[str, str]) -> Path | None:
    """Return the toolkit's folder: what the environment names, else where it usually is, else None."""
    named = environment.get(TOOLKIT_VARIABLE)
    candidates = (Path(named),) if named else USUAL_TOOLKITS
    return next((path for path in candidates if path.is_dir()), None)


def version(toolkit: Path) -> str | None:
    """Return the toolkit's version as its own files say, for example `8.0.RC2`; None when they do not."""
    files = (
        *sorted(toolkit.glob("*-linux/ascend_toolkit_install.info")),
        toolkit / "compiler" / "version.info",
        toolkit / "version.info",
    )
    for file in files:
        if file.is_file() and (found := _VERSION.search(file.read_text(errors="replace"))):
            return found.group(1)
    return None


def fingerprint(environment: Mapping[str, str]) -> str:
    """Return what distinguishes this host's toolchain in content keys, for example `cann-8.0.0-emulated`.

    Raises:
        ToolMissingError: there is no toolkit, or it does not say its version.
    """
    toolkit = find_toolkit(environment)
    if toolkit is None:
        raise ToolMissingError(f"CANN was not found ({TOOLKIT_VARIABLE} and the usual folders). {_ADVICE}")
    found = version(toolkit)
    if found is None:
        raise ToolMissingError(f"The CANN toolkit in {toolkit} does not say its version. {_ADVICE}")
    return f"cann-{found}"


def find_atc(environment: Mapping[str, str]) -> Path:
    """Return the absolute path of `atc`: on PATH, else in the toolkit; raises ToolMissingError."""
    toolkit = find_toolkit(environment)
    in_toolkit = [] if toolkit is None else [toolkit / "bin", toolkit / "compiler" / "bin"]
    places = os.pathsep.join([environment.get("PATH", ""), *map(str, in_toolkit)])
    found = shutil.which("atc", path=places)
    if found is None:
        raise ToolMissingError(f"`atc` was not found on PATH or in the CANN toolkit. {_ADVICE}")
    return Path(found).absolute()


def atc_environment(environment: Mapping[str, str], log_folder: Path) -> dict[str, str]:
    """Return the environment for one conversion: bounded parallelism, private logs, the driver's stub where needed.

    Args:
        environment: this process's own, already reduced to what a job may know.
        log_folder: of the attempt.
    """
    processes = str(max(1, min(_MAX_COMPILE_PROCESSES, (os.cpu_count() or 1) * 8 // 10)))
    result = {"TE_PARALLEL_COMPILER": processes, "MAX_COMPILE_CORE_NUMBER": processes, **environment}
    result["ASCEND_PROCESS_LOG_PATH"] = str(log_folder)
    stub = _driver_stub(environment)
    if stub is not None:
        result["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [environment.get("LD_LIBRARY_PATH"), str(stub)]))
    return result


def _driver_stub(environment: Mapping[str, str]) -> Path | None:
    """Return the folder of the toolkit's stub driver when this host has no driver: converting needs no card."""
    toolkit = find_toolkit(environment)
    searched = [*map(Path, filter(None, environment.get("LD_LIBRARY_PATH", "").split(os.pathsep))), *_DRIVER_LIBRARIES]
    if toolkit is None or any((folder / _HAL).exists() for folder in searched):
        return None
    stub = toolkit / f"{platform.machine()}-linux" / "devlib"
    return stub if stub.is_dir() else None
