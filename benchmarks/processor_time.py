"""The processor time of a whole program: its start and its end are part of what it costs."""

import resource
import subprocess
from collections.abc import Sequence


def processor_seconds(command: Sequence[str], *, limit_seconds: float) -> float:
    """Run a program to its good end; returns its seconds of user and system time.

    Raises:
        CalledProcessError: it failed.
        TimeoutExpired: it did not end in time, and was killed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, timeout=limit_seconds)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
