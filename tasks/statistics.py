"""What a series of measured times says, and how surely. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """Of a series of times, in the unit of the series."""

    mean: float
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where the median of the underlying distribution lies, with `CONFIDENCE`."""

    low: float
    median: float
    high: float

    @property
    def relative_half_width(self) -> float:
        """Return half the width as a share of the median."""
        return (self.high - self.low) / 2 / self.median


def latencies(values: Sequence[float]) -> Latencies:
    """Return mean and percentiles (linear between neighbours); raises ValueError for an empty series."""
    if not values:
        raise ValueError("no times were measured")
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return Latencies(mean=float(np.mean(values)), p50=float(p50), p90=float(p90), p99=float(p99))


def median_interval(values: Sequence[float]) -> Interval | None:
    """Return the interval of the median from order statistics, which needs no assumption about the distribution.

    The k-th smallest and k-th largest value enclose the median with a probability that the binomial distribution
    gives. Below six values no pair does with `CONFIDENCE`; the answer then is None.
    """
    from scipy import stats

    count = len(values)
    rank = int(stats.binom.ppf((1 - CONFIDENCE) / 2, count, 0.5)) if count else 0
    if rank < 1:
        return None
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    return Interval(low=float(ordered[rank - 1]), median=float(np.median(ordered)), high=float(ordered[count - rank]))
