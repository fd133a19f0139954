"""Times, sizes and rates as people read them, and the other way round. Pure."""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Final

from npuq.errors import InvalidRequestError

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86_400

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)?")
_UNIT_SECONDS: Final = {None: 1, "s": 1, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}


def duration(seconds: float) -> str:
    """Return a duration in at most two units: `0.4s`, `12s`, `3m05s`, `2h10m`, `4d06h`."""
    if seconds < 10:  # noqa: PLR2004 - below, tenths matter
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m{whole % MINUTE:02}s"
    if whole < DAY:
        return f"{whole // HOUR}h{whole % HOUR // MINUTE:02}m"
    return f"{whole // DAY}d{whole % DAY // HOUR:02}h"


def ago(moment: datetime | None, now: datetime) -> str:
    """Return how long ago a moment was, in one unit: `now`, `12s ago`, `3m ago`; "-" for None."""
    if moment is None:
        return "-"
    seconds = (now - moment).total_seconds()
    if seconds < 1:
        return "now"
    for unit, length in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", 1)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit} ago"
    return "now"


def iso(moment: datetime | None) -> str | None:
    """Return ISO-8601 with zone, None for None."""
    return None if moment is None else moment.astimezone(UTC).isoformat()


def size(size_bytes: int) -> str:
    """Return a number of bytes in the unit that suits: `312 B`, `16.8 MiB`."""
    amount = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:  # noqa: PLR2004 - the step between the units
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def parse_duration(text: str) -> timedelta:
    """Read `90`, `90s`, `5m`, `2h`, `7d`, `1w`; raises InvalidRequestError."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise InvalidRequestError(f"{text!r} is not a duration; write for example 90s, 5m, 2h or 7d")
    return timedelta(seconds=float(found[1]) * _UNIT_SECONDS[found[2]])


def deadline_after(text: str | None) -> float | None:
    """Return the moment, in monotonic seconds, that a duration from now is over; None for None."""
    return None if text is None else time.monotonic() + parse_duration(text).total_seconds()


def parse_since(text: str, now: datetime) -> datetime:
    """Read a duration before now (`7d`) or a date or time (`2026-11-01`, in UTC unless it says so).

    Raises:
        InvalidRequestError: it is neither.
    """
    if _DURATION.fullmatch(text.strip()):
        return now - parse_duration(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequestError(
            f"{text!r} is neither a duration (7d) nor a date (2026-11-01, 2026-11-01T12:00+01:00)"
        ) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def one_line(text: str, limit: int = 100) -> str:
    """Return text on one line, cut at a limit."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def counted(number: int, noun: str) -> str:
    """Return `1 job`, `3 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
