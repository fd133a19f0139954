"""The boxes that the network corrects, one per cell of each map, and the corrected boxes."""

from functools import lru_cache
from typing import Final

import numpy as np

from tasks.protocols import Array
from tasks.recipes.pyramidbox import shapes

CENTRE_VARIANCE: Final = 0.1  #: unit of a centre's correction, in sides of the prior
SIZE_VARIANCE: Final = 0.2  #: unit of a side's correction, in natural logarithms
_KEPT: Final = 4  # tables; those of the variable inputs of the reference's scales are seen once each


@lru_cache(maxsize=_KEPT)
def priors(height: int, width: int) -> Array:
    """Return float32 (P, 4): centre x, centre y, width, height, relative to the input; read only, not clipped.

    Level by level, row by row. The cells of the third level and above may leave a strip at the right and the lower
    border, because pooling cuts odd sides.

    Args:
        height: of the network's input, in pixels.
        width: likewise.
    """
    levels = [
        _level(level, rows, columns, height, width)
        for level, (rows, columns) in zip(shapes.LEVELS, shapes.sizes(height, width), strict=True)
    ]
    table = np.concatenate(levels).astype(np.float32)
    table.flags.writeable = False
    return table


def _level(level: shapes.Level, rows: int, columns: int, height: int, width: int) -> Array:
    y = (np.arange(rows) + 0.5) * level.step / height
    x = (np.arange(columns) + 0.5) * level.step / width
    table = np.empty((rows, columns, 4))
    table[..., 0], table[..., 1] = x, y[:, None]
    table[..., 2:] = level.face / width, level.face / height
    return table.reshape(-1, 4)


def decode(locations: Array, chosen: Array) -> Array:
    """Return float32 (N, 4) boxes, x1 y1 x2 y2 relative to the input, not clipped; a side may overflow to infinity.

    Args:
        locations: float32 (N, 4): centre x, centre y in tenths of the prior's sides, logarithms of the sides in fifths.
        chosen: float32 (N, 4), the priors of these rows.
    """
    centres = chosen[:, :2] + locations[:, :2] * np.float32(CENTRE_VARIANCE) * chosen[:, 2:]
    with np.errstate(over="ignore"):
        sizes = chosen[:, 2:] * np.exp(locations[:, 2:] * np.float32(SIZE_VARIANCE))
    with np.errstate(invalid="ignore"):
        near = centres - sizes / np.float32(2)
        return np.concatenate([near, near + sizes], axis=1)
