"""Times and sizes as people read and write them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from cli import words
from npuq.errors import InvalidRequestError

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0s"), (9.94, "9.9s"), (10, "10s"), (59.4, "59s"), (185, "3m05s"), (7800, "2h10m"), (367_200, "4d06h")],
)
def test_durations_take_two_units_at_most(seconds: float, text: str) -> None:
    """Short ones show tenths, long ones no seconds."""
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("before", "text"),
    [(0.2, "now"), (12, "12s ago"), (200, "3m ago"), (7300, "2h ago"), (200_000, "2d ago"), (-5, "now")],
)
def test_relative_times_take_one_unit(before: float, text: str) -> None:
    """A clock that is a little ahead says now."""
    assert words.ago(NOW - timedelta(seconds=before), NOW) == text


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1.5h", 5400), ("7d", 604_800)])
def test_durations_are_read_with_and_without_a_unit(text: str, seconds: float) -> None:
    """Seconds are the default."""
    assert words.parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "5 years", "1h30m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """With an example of what is one."""
    with pytest.raises(InvalidRequestError, match="5m"):
        words.parse_duration(text)


def test_since_takes_a_duration_or_a_moment() -> None:
    """Dates without a zone are UTC, those with one keep it."""
    assert words.parse_since("2h", NOW) == NOW - timedelta(hours=2)
    assert words.parse_since("2026-11-01", NOW) == datetime(2026, 11, 1, tzinfo=UTC)
    assert words.parse_since("2026-11-01T12:00+02:00", NOW) == datetime(2026, 11, 1, 10, tzinfo=UTC)
    with pytest.raises(InvalidRequestError, match="neither"):
        words.parse_since("yesterday", NOW)


def test_json_times_carry_their_zone() -> None:
    """Whatever zone a moment came in."""
    assert words.iso(NOW.astimezone(timezone(timedelta(hours=8)))) == "2026-11-21T12:00:00+00:00"
    assert words.iso(None) is None


def test_one_line_folds_and_cuts() -> None:
    """Errors of several lines fit into a cell."""
    assert words.one_line("a\n  b\tc") == "a b c"
    assert words.one_line("x" * 200, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(("size", "text"), [(312, "312 B"), (17_616_077, "16.8 MiB"), (3 * 2**40, "3.0 TiB")])
def test_sizes_take_the_unit_that_suits(size: int, text: str) -> None:
    """Binary units, one decimal."""
    assert words.size(size) == text
