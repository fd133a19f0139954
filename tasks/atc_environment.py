"""What surrounds one conversion: its share of the host, its private folders, and the variables of its toolkit.

A toolkit that the worker's environment does not name gets what its `set_env.sh` would set. No card is needed: without
a driver the toolkit's own stub of the driver's library is put on the path.
"""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tasks.cann import TOOLKIT_VARIABLE, Toolkit

MAX_COMPILE_PROCESSES: Final = 8
"""ATC's own default."""
COMPILE_PROCESS_BYTES: Final = 2 * 2**30
"""What one compile process may need: a host of 7.6 GiB was killed with eight of them and lived with two."""
SHARE_OF_CORES: Final = 0.8
LESS_PER_ATTEMPT: Final = 4
_PROCESSES_VARIABLES: Final = ("MAX_COMPILE_CORE_NUMBER", "TE_PARALLEL_COMPILER")
#: Everything that ATC may do at once, one after another.
_SERIAL: Final = {
    "MULTI_THREAD_COMPILE": "0",
    "TBE_PARALLEL_COMPILER": "0",
    "ASCENDC_PAR_COMPILE_JOB": "0",
    "TILINGKEY_PAR_COMPILE": "0",
    "OMP_NUM_THREADS": "1",
}
_DRIVER_LIBRARIES: Final = (
    Path("/usr/local/Ascend/driver/lib64/driver"),
    Path("/usr/local/Ascend/driver/lib64/common"),
    Path("/usr/local/Ascend/driver/lib64"),
)
_HAL: Final = "libascend_hal.so"
_TBE: Final = Path("opp/built-in/op_impl/ai_core/tbe")


def compile_processes(*, cores: int, memory_bytes: int, slots: int) -> int:
    """Return how many compile processes one of `slots` conversions may have, 1 to 8.

    Args:
        cores: of the host.
        memory_bytes: of the host.
        slots: conversions that may run at once.
    """
    by_cores = int(cores * SHARE_OF_CORES / slots)
    by_memory = memory_bytes // slots // COMPILE_PROCESS_BYTES
    return max(1, min(MAX_COMPILE_PROCESSES, by_cores, by_memory))


def slot_environment(environment: Mapping[str, str], processes: int) -> dict[str, str]:
    """Return the environment with a slot's share of the host; what the administrator has set stays."""
    return dict.fromkeys(_PROCESSES_VARIABLES, str(processes)) | dict(environment)


def atc_environment(environment: Mapping[str, str], toolkit: Toolkit, workdir: Path, *, attempt: int) -> dict[str, str]:
    """Return the environment of one conversion.

    Args:
        environment: this process's own, already reduced to what a job may know, with the slot's share.
        toolkit: which CANN.
        workdir: private to the attempt: caches, logs and HOME lie below it.
        attempt: from 1; each further one compiles with fewer processes, the last ones one operator at a time.
    """
    result = dict(environment)
    processes = max(1, _processes(environment) // LESS_PER_ATTEMPT ** (attempt - 1))
    result |= dict.fromkeys(_PROCESSES_VARIABLES, str(processes))
    if attempt > 1 and processes == 1:
        result |= _SERIAL
    if not toolkit.is_default or TOOLKIT_VARIABLE not in environment:
        result |= _toolkit_variables(toolkit.root, environment)
    result["HOME"] = str(workdir / "home")
    result["ASCEND_PROCESS_LOG_PATH"] = str(workdir / "ascend_log")
    stub = _driver_stub(toolkit.root, result)
    if stub is not None:
        result["LD_LIBRARY_PATH"] = _joined(result.get("LD_LIBRARY_PATH", ""), stub)
    return result


def _processes(environment: Mapping[str, str]) -> int:
    told = [int(text) for name in _PROCESSES_VARIABLES if (text := environment.get(name, "")).isdecimal()]
    return min(told, default=max(1, min(MAX_COMPILE_PROCESSES, int((os.cpu_count() or 1) * SHARE_OF_CORES))))


def _toolkit_variables(root: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the toolkit's `set_env.sh` sets, without the folders of the toolkit that it replaces."""
    replaced = environment.get(TOOLKIT_VARIABLE)

    def path(name: str, *folders: Path) -> str:
        rest = [
            entry
            for entry in environment.get(name, "").split(os.pathsep)
            if entry and not (replaced and Path(entry).is_relative_to(replaced))
        ]
        return _joined(*folders, *rest)

    return {
        TOOLKIT_VARIABLE: str(root),
        "ASCEND_HOME_PATH": str(root),
        "ASCEND_AICPU_PATH": str(root),
        "ASCEND_OPP_PATH": str(root / "opp"),
        "TOOLCHAIN_HOME": str(root / "toolkit"),
        "PATH": path("PATH", root / "bin", root / "compiler/bin", root / "compiler/ccec_compiler/bin"),
        "LD_LIBRARY_PATH": path(
            "LD_LIBRARY_PATH",
            root / "lib64",
            root / "lib64/plugin/opskernel",
            root / "lib64/plugin/nnengine",
            root / _TBE / f"op_tiling/lib/linux/{platform.machine()}",
        ),
        "PYTHONPATH": path("PYTHONPATH", root / "python/site-packages", root / _TBE),
    }


def _driver_stub(toolkit: Path, environment: Mapping[str, str]) -> Path | None:
    """Return the folder of the toolkit's stub driver when this host has no driver."""
    searched = [*map(Path, filter(None, environment.get("LD_LIBRARY_PATH", "").split(os.pathsep))), *_DRIVER_LIBRARIES]
    if any((folder / _HAL).exists() for folder in searched):
        return None
    stub = toolkit / f"{platform.machine()}-linux" / "devlib"
    return stub if stub.is_dir() else None


def _joined(*entries: str | Path) -> str:
    return os.pathsep.join(str(entry) for entry in entries if str(entry))
