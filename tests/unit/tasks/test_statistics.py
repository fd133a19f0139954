import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.statistics import latencies, median_interval

TIMES = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=300)


def test_the_interval_of_ten_values_is_the_textbooks() -> None:
    """For n = 10 the 2nd and 9th value enclose the median with 97.9 %; the 3rd and 8th with 89 % only."""
    interval = median_interval([float(value) for value in range(1, 11)])
    assert interval is not None
    assert (interval.low, interval.median, interval.high) == (2.0, 5.5, 9.0)
    assert interval.relative_half_width == pytest.approx(3.5 / 5.5)


def test_five_values_say_nothing() -> None:
    """Minimum and maximum of five values enclose the median with 93.75 %: not enough."""
    assert median_interval([1.0] * 5) is None
    assert median_interval([]) is None
    assert median_interval([1.0] * 6) is not None


@settings(deadline=None)  # the machine may be busy
@given(TIMES)
def test_the_interval_encloses_the_median_and_ignores_the_order(values: list[float]) -> None:
    """Whatever the series: low <= median <= high, and sorting changes nothing."""
    interval = median_interval(values)
    assert interval == median_interval(sorted(values))
    assert (interval is None) == (len(values) < 6)
    if interval is not None:
        assert interval.low <= interval.median <= interval.high


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Of many skewed series, at least 95 % of the intervals hold the true median, and not nearly all."""
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        interval = median_interval(generator.exponential(size=60).tolist())
        assert interval is not None
        hits += interval.low <= np.log(2) <= interval.high
    assert 0.93 <= hits / 400 <= 0.995


@settings(deadline=None)  # the machine may be busy
@given(TIMES)
def test_percentiles_are_in_order(values: list[float]) -> None:
    """p50 <= p90 <= p99, all within the series."""
    found = latencies(values)
    assert min(values) <= found.p50 <= found.p90 <= found.p99 <= max(values)


def test_an_empty_series_is_refused() -> None:
    """There is no mean of nothing."""
    with pytest.raises(ValueError, match="no times"):
        latencies([])
