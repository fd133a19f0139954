"""The 3,000 boxes that the network corrects: where they stand, how large they are, and in which order.

The configuration is the one that `mb2-ssd-lite` was trained with; it decides how outputs are read, so nothing of it can
be chosen.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from tasks.protocols import Array

INPUT_SIZE: Final = 300  #: pixels of both sides of the network's input
PRIORS_PER_CELL: Final = 6
CENTRE_VARIANCE: Final = 0.1  #: unit of a centre's correction, in sides of the prior
SIZE_VARIANCE: Final = 0.2  #: unit of a side's correction, in natural logarithms
_RATIOS: Final = (2.0, 3.0)  # of the longer to the shorter side, each lying and standing


@dataclass(frozen=True, kw_only=True)
class Level:
    """A feature map with its priors, in pixels of the network's input.

    Attributes:
        cells: of one side of the map.
        step: pixels from cell to cell; not always what the cells would suggest.
        small, large: side of the smaller square, and the size that the larger one lies half way (geometrically) to.
    """

    cells: int
    step: int
    small: int
    large: int

    @property
    def priors(self) -> int:
        """Return how many priors the level has."""
        return self.cells * self.cells * PRIORS_PER_CELL


LEVELS: Final = (
    Level(cells=19, step=16, small=60, large=105),
    Level(cells=10, step=32, small=105, large=150),
    Level(cells=5, step=64, small=150, large=195),
    Level(cells=3, step=100, small=195, large=240),
    Level(cells=2, step=150, small=240, large=285),
    Level(cells=1, step=300, small=285, large=330),
)


def priors() -> Array:
    """Return float32 (3000, 4): centre x, centre y, width, height, relative to the input, all clamped to [0, 1].

    Level by level, row by row, cell by cell; in a cell the small square, the large one, then for each ratio the lying
    and the standing box.
    """
    rows = [row for level in LEVELS for row in _rows(level)]
    return np.clip(np.array(rows, dtype=np.float32), 0, 1)


def _rows(level: Level) -> list[tuple[float, float, float, float]]:
    cells_per_side = INPUT_SIZE / level.step  # not a whole number on the finer levels
    sizes = _sizes(level)
    return [
        ((column + 0.5) / cells_per_side, (row + 0.5) / cells_per_side, width, height)
        for row, column in itertools.product(range(level.cells), repeat=2)
        for width, height in sizes
    ]


def _sizes(level: Level) -> list[tuple[float, float]]:
    small = level.small / INPUT_SIZE
    large = math.sqrt(level.large * level.small) / INPUT_SIZE
    roots = [math.sqrt(ratio) for ratio in _RATIOS]
    oblong = [size for root in roots for size in ((small * root, small / root), (small / root, small * root))]
    return [(small, small), (large, large), *oblong]
