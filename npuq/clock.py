"""Time, as a value that tests can replace.

Durations are measured with the monotonic clock; wall time is for rows and people only. Leases are stamped by the
database's own clock, never by this one.
"""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the loops need to know about time."""

    def now(self) -> datetime:
        """Return aware wall time in UTC."""

    def monotonic(self) -> float:
        """Return seconds of a clock that never steps."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return aware wall time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds of a clock that never steps."""
        return time.monotonic()


def check_aware(moment: datetime) -> datetime:
    """Return `moment` in UTC; raise ValueError when it carries no zone."""
    if moment.tzinfo is None:
        raise ValueError(f"naive datetime {moment!r}: every time in npuq carries its zone")
    return moment.astimezone(UTC)
