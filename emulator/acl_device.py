"""Devices of the emulated runtime: opening one, its faults, and the lines that the real runtime writes to stdout.

Lines go to file descriptor 1, below `sys.stdout`, as those of the C++ module do.
"""

import os
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import Final, NoReturn

from emulator import diary
from emulator.diary import Event
from emulator.engines import hang
from emulator.fleet import Chip, Fault, FaultKind, Fleet
from emulator.home import ENVIRONMENT_VARIABLE, Home


class LogLevel(IntEnum):
    """Values of `session_options.log_level`."""

    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4


INVALID_PARAMETER: Final = "[1004][Invalid parameter] "
#: The runtime's own FAILED is 1, and is shown with the text that ACL has for 1.
FAILED: Final = "[1][ACL: invalid parameter] "
ALLOCATION_FAILED: Final = "[2][ACL: memory allocation fail] "
NO_CONTEXT: Final = "[107002][Error code unknown] "
GENERAL_FAILURE: Final = "[-1][ACL: general failure] "
MEMORY_TEXT: Final = """\
EL0004: [PID: {pid}] Failed to allocate memory.
        Possible Cause: Available memory is insufficient.
        Solution: Close applications not in use.
        TraceBack (most recent call last):
        malloc physical memory failed, runtime result = 207001[FUNC:ReportCallError][FILE:log_inner.cpp][LINE:161]"""
EXECUTION_TEXT: Final = """\
EZ9999: Inner Error!
        {error}
        Aicore kernel execute failed, runtime result = 507011[FUNC:ReportCallError][FILE:log_inner.cpp][LINE:161]"""
_OPEN_FAILED_TEXT: Final = """\
EL003: The argument is invalid.
        TraceBack (most recent call last):
        Failed to open device,retCode=0x7020014,deviceId={device}.[FUNC:Init][FILE:device.cc][LINE:211]
        open device {device} failed,runtime result = {code}.[FUNC:ReportCallError][FILE:log_inner.cpp][LINE:162]"""
_INVALID_DEVICE_TEXT: Final = """\
EE1001: The argument is invalid.Reason: set device {device} error, input data rang[0-{count})
        TraceBack (most recent call last):
        open device {device} failed, runtime result = {code}.[FUNC:ReportCallError][FILE:log_inner.cpp][LINE:162]"""
_HEARTBEAT_TEXT: Final = """\
EE9999: Inner Error!
        rtStreamSynchronize execute failed, reason=[task scheduler lost heartbeat], runtime result = 507010\
[FUNC:ReportCallError][FILE:log_inner.cpp][LINE:161]"""

_OPEN_FAILED_CODE: Final = 507033
_INVALID_DEVICE_CODE: Final = 107001
_DISCONNECTED_CODE: Final = 507901
_NO_DRIVER_CODE: Final = 507899

_ACL: Final = "acl"
_initialised: set[str] = set()


@lru_cache(maxsize=1)
def _home_at(root: str | None) -> Home:
    return Home.from_environment() if root is None else Home(Path(root))


def current_home() -> Home:
    """Return the home that the environment names; raises FleetFileError when it names none."""
    return _home_at(os.environ.get(ENVIRONMENT_VARIABLE))


def device_count() -> int:
    """Return how many devices this process sees."""
    return len(visible_chips(current_home().fleet()))


def print_line(text: str) -> None:
    """Write a line to file descriptor 1."""
    os.write(1, f"{text}\n".encode())


def log(level: LogLevel, threshold: int, text: str) -> None:
    """Write a log line when the session's level lets it through."""
    if level >= threshold:
        print_line(f"[{level.name}] {text}")


def fail(code: int) -> NoReturn:
    """Raise the error for an ACL code that the text table does not know."""
    raise RuntimeError(f"[{code}][Error code unknown] ")


def visible_chips(fleet: Fleet) -> list[int]:
    """Return the logic ids that this process may open, in the order of its device numbers.

    ASCEND_RT_VISIBLE_DEVICES re-numbers them; what follows an invalid entry is ignored, as the real runtime does.
    """
    told = os.environ.get("ASCEND_RT_VISIBLE_DEVICES")
    if told is None:
        return [chip.logic_id for chip in fleet.chips]
    chosen: list[int] = []
    for part in told.split(","):
        if not part.isdigit() or fleet.chip(int(part)) is None:
            break
        chosen.append(int(part))
    return chosen


def strike(home: Home, logic_id: int | None, kind: FaultKind) -> Fault | None:
    """Return the fault when it strikes now, and note it in the diary."""
    fault = home.take_fault(logic_id, kind)
    if fault is not None:
        diary.note(home, Event.FAULT, device=logic_id, kind=kind.value)
    return fault


def open_device(home: Home, device: int, threshold: int) -> Chip:
    """Open a device, or raise RuntimeError as the real runtime does."""
    fleet = home.fleet()
    if fleet.fault(None, FaultKind.NO_DRIVER):
        print_line("[ERROR] acl init failed, ret:507899")
        fail(_NO_DRIVER_CODE)
    if _ACL not in _initialised:
        log(LogLevel.INFO, threshold, "acl init success")
        _initialised.add(_ACL)
    visible = visible_chips(fleet)
    chip = fleet.chip(visible[device]) if 0 <= device < len(visible) else None
    if chip is None:
        _refuse_device(device, _INVALID_DEVICE_CODE, _INVALID_DEVICE_TEXT, len(visible))
    if fleet.fault(chip.logic_id, FaultKind.LOST):
        _refuse_device(device, _DISCONNECTED_CODE, _OPEN_FAILED_TEXT)
    if strike(home, chip.logic_id, FaultKind.OPEN_FAILED):
        _refuse_device(device, _OPEN_FAILED_CODE, _OPEN_FAILED_TEXT)
    if f"device {device}" not in _initialised:
        log(LogLevel.INFO, threshold, f"open device {device} success")
        _initialised.add(f"device {device}")
    return chip


def _refuse_device(device: int, code: int, text: str, count: int = 0) -> NoReturn:
    print_line(text.format(device=device, code=code, count=count))
    print_line(f"[ERROR] acl open device {device} failed")
    print_line(f"SetDevice failed.ret={code}")
    fail(code)


def strike_execution(home: Home, chip: Chip) -> None:
    """Let the faults of an execution happen: raise, abort or hang; returns when there is none."""
    if home.fleet().fault(chip.logic_id, FaultKind.LOST):
        print_line(_HEARTBEAT_TEXT)
        raise RuntimeError(GENERAL_FAILURE)
    if strike(home, chip.logic_id, FaultKind.OOM):
        print_line(MEMORY_TEXT.format(pid=os.getpid()))
        raise RuntimeError("[207001][Error code unknown] ")
    if strike(home, chip.logic_id, FaultKind.BAD_EXECUTE):
        print_line(EXECUTION_TEXT.format(error="an injected fault of the emulator"))
        raise RuntimeError(GENERAL_FAILURE)
    if strike(home, chip.logic_id, FaultKind.CRASH):
        os.abort()
    if strike(home, chip.logic_id, FaultKind.HANG):
        hang()


def reset_devices(threshold: int = LogLevel.INFO) -> None:
    """Close every open device and ACL itself, as `finalize` does; again is harmless."""
    devices = sorted(_initialised - {_ACL})
    for device in devices:
        log(LogLevel.INFO, threshold, f"end to reset {device}")
    if _initialised:
        log(LogLevel.INFO, threshold, "end to finalize acl")
    _initialised.clear()
