"""A child that dies with its parent: the kernel sees to it, even while a native call holds the interpreter."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int, death_signal: signal.Signals) -> None:
    """Have the kernel send this process `death_signal` when the *thread* that started it ends.

    Raises:
        SystemExit: the parent ended before the request was made.
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent_pid:
        raise SystemExit("the parent process is already gone")
