"""What it means that a child process went away without an answer. Pure."""

import signal
from typing import Final

from npuq.errors import Blame, ChildLostError, ErrorInfo

#: A native crash in a process that owns a chip: the runtime, the driver or the chip.
_CRASHES: Final = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE})


def describe_loss(
    *, name: str, on_chip: bool, returncode: int | None, on_request: bool, reason: str, tail: str
) -> ErrorInfo:
    """Return the error of an attempt whose process is lost.

    Args:
        name: of the child.
        on_chip: whether it owned a chip.
        returncode: exit status, negative for a signal; None when it could not be ended.
        on_request: whether this worker ended it.
        reason: how the loss was noticed.
        tail: the last lines it printed.
    """
    if on_request:
        return ChildLostError(f"{name} was ended by its worker.", detail=tail).info
    crashed = returncode is not None and -returncode in _CRASHES
    return ChildLostError(
        f"{name} {_fate(returncode)} without an answer ({reason}). {_advice(returncode, on_chip=on_chip)}",
        blame=Blame.DEVICE if crashed and on_chip else Blame.HOST,
        detail=tail,
    ).info


def _fate(returncode: int | None) -> str:
    if returncode is None:
        return "is still there and could not be ended"
    if returncode < 0:
        known = {number.value: number.name for number in signal.Signals}
        return f"was killed by {known.get(-returncode, f'signal {-returncode}')}"
    return f"exited with status {returncode}"


def _advice(returncode: int | None, *, on_chip: bool) -> str:
    if returncode == -signal.SIGKILL:
        return "Nobody here sent it: look for the kernel's out-of-memory killer in `dmesg`, or a person."
    if returncode is None:
        return "A driver call that does not return needs the operator: the host may have to be restarted."
    return "Look at the last lines of its log" + (" and at the chip's health with `npu-smi info`." if on_chip else ".")
