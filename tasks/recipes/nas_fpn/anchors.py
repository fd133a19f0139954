"""The anchors of the five levels, and boxes from the deltas that the network predicts for them."""

from functools import cache
from typing import Final

import numpy as np

from tasks.protocols import Array
from tasks.recipes.nas_fpn.shapes import CANVAS

_BASE_SCALE: Final = 4  #: side of the smallest square anchor, in cells
_SCALES_PER_OCTAVE: Final = 3
_RATIOS: Final = (0.5, 1.0, 2.0)  #: height over width
#: Sides change by a factor of at most 62.5, either way.
_LARGEST_LOG_CHANGE: Final = np.float32(abs(np.log(16 / 1000)))


@cache
def anchors(level: int) -> Array:
    """Return float32 (cells * 9, 4), x1 y1 x2 y2 in pixels of the canvas; row (y * side + x) * 9 + anchor.

    The nine anchors of a cell are ordered by ratio, then by scale, and centred on the cell's upper left corner.
    """
    stride = 2**level
    scales = np.array(
        [_BASE_SCALE * 2 ** (step / _SCALES_PER_OCTAVE) for step in range(_SCALES_PER_OCTAVE)], dtype=np.float32
    )
    height_factors = np.sqrt(np.array(_RATIOS, dtype=np.float32))
    widths = (stride * (1 / height_factors)[:, None] * scales).ravel()
    heights = (stride * height_factors[:, None] * scales).ravel()
    half = np.stack([widths, heights], axis=1) * np.float32(0.5)
    cell = np.concatenate([-half, half], axis=1)
    starts = np.arange(CANVAS // stride, dtype=np.float32) * np.float32(stride)
    x, y = np.meshgrid(starts, starts)
    corners = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    boxes: Array = (corners + cell).reshape(-1, 4)
    return boxes


def decode(boxes: Array, deltas: Array) -> Array:
    """Return float32 (N, 4), x1 y1 x2 y2 clipped to the canvas.

    Args:
        boxes: float32 (N, 4), anchors.
        deltas: float32 (N, 4): shift of the centre in sides of the anchor, logarithm of the sides' growth.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = (boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5) + sides * deltas[:, :2]
    half = sides * np.exp(np.clip(deltas[:, 2:], -_LARGEST_LOG_CHANGE, _LARGEST_LOG_CHANGE)) * np.float32(0.5)
    decoded = np.concatenate([centres - half, centres + half], axis=1)
    clipped: Array = np.clip(decoded, np.float32(0), np.float32(CANVAS))
    return clipped
