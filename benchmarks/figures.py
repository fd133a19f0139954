"""What a benchmark yields: numbers with a unit and how they came about, and the table that shows them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number.

    Attributes:
        name: what was measured.
        value: the number.
        unit: of the value.
        how: over what, in a few words.
    """

    name: str
    value: float
    unit: str
    how: str


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of the values do not exceed; raises ValueError when there are none."""
    if not values:
        raise ValueError("nothing was measured")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def spread(name: str, seconds: Sequence[float], how: str) -> list[Figure]:
    """Return median and 99th percentile of durations, in milliseconds."""
    return [
        Figure(name=f"{name}, {label}", value=1000 * quantile(seconds, share), unit="ms", how=how)
        for label, share in (("median", 0.5), ("p99", 0.99))
    ]


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as an aligned table."""
    rows = [("figure", "value", "", "how")]
    rows += [(each.name, f"{each.value:.4g}", each.unit, each.how) for each in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{name:<{widths[0]}}  {value:>{widths[1]}} {unit:<{widths[2]}}  {how}" for name, value, unit, how in rows
    )
