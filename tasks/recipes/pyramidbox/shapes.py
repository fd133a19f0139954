"""The sizes of PyramidBox's maps. Numbers only: planning needs them, without numpy or torch."""

from dataclasses import dataclass
from typing import Final

Size = tuple[int, int]
"""Rows and columns of a map."""

SIDE: Final = 1000  #: pixels of both sides of the input, in the guide


@dataclass(frozen=True, kw_only=True)
class Level:
    """A map on which faces are looked for: one prior per cell.

    Attributes:
        step: pixels from one cell to the next.
        face: side of the prior in pixels.
    """

    step: int
    face: int


LEVELS: Final = (
    Level(step=4, face=16),
    Level(step=8, face=32),
    Level(step=16, face=64),
    Level(step=32, face=128),
    Level(step=64, face=256),
    Level(step=128, face=512),
)
_POOLED: Final = 4  # levels whose cells come of pooling, which cuts; those of the convolutions after it round up


def cells(side: int) -> tuple[int, ...]:
    """Return how many cells the maps of `LEVELS` have along a side of so many pixels."""
    found = [side // level.step for level in LEVELS[:_POOLED]]
    for _ in LEVELS[_POOLED:]:
        found.append((found[-1] + 1) // 2)  # of no negative number: a traced graph rounds those towards 0
    return tuple(found)


def sizes(height: int, width: int) -> list[Size]:
    """Return the sizes of the maps of an input of so many pixels, finest first."""
    return list(zip(cells(height), cells(width), strict=True))


def priors(height: int, width: int) -> int:
    """Return the number of priors, one per cell of each map: 83,250 for an input of 1000 x 1000."""
    return sum(rows * columns for rows, columns in sizes(height, width))
