"""The 49,104 reference boxes of EfficientDet-D0, and boxes from the network's codes relative to them."""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from tasks.protocols import Array
from tasks.recipes.efficientdet_d0.shapes import ANCHORS_PER_CELL, STRIDES

_SCALE: Final = 4.0  #: side of a level's smallest square anchor, in strides
_OCTAVE_SCALES: Final = tuple(2 ** (octave / 3) for octave in range(3))
_ASPECTS: Final = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))  #: width and height, times the side


@dataclass(frozen=True, kw_only=True, eq=False)
class Anchors:
    """Anchors in order of level, row, column, octave, aspect; pixels of the network's input.

    Attributes:
        centres: float32 (N, 2), x y; cells have theirs at half a stride.
        sizes: float32 (N, 2), width height.
        level_starts: where each level begins, and the end: 6 numbers.
    """

    centres: Array
    sizes: Array
    level_starts: tuple[int, ...]


@cache
def anchors(side: int) -> Anchors:
    """Return the anchors of a square input; read only, made once.

    Args:
        side: in pixels, a multiple of the coarsest stride.
    """
    shapes = np.array([(scale * wide, scale * high) for scale in _OCTAVE_SCALES for wide, high in _ASPECTS])
    levels = [_level(stride, side, shapes) for stride in STRIDES]
    centres, sizes = (np.concatenate(parts).astype(np.float32) for parts in zip(*levels, strict=True))
    for array in (centres, sizes):
        array.flags.writeable = False
    starts = np.cumsum([0, *(len(part) for part, _ in levels)])
    return Anchors(centres=centres, sizes=sizes, level_starts=tuple(starts.tolist()))


def _level(stride: int, side: int, shapes: Array) -> tuple[Array, Array]:
    positions = np.arange(stride / 2, side, stride)
    y, x = np.meshgrid(positions, positions, indexing="ij")
    cells = np.stack([x.ravel(), y.ravel()], axis=1)
    centres = np.repeat(cells, ANCHORS_PER_CELL, axis=0)
    sizes = np.tile(shapes * _SCALE * stride, (len(cells), 1))
    return centres, sizes


def decode(codes: Array, centres: Array, sizes: Array) -> Array:
    """Return float32 (N, 4) boxes, x1 y1 x2 y2, not clipped; a size that overflows becomes infinite.

    Args:
        codes: float32 (N, 4), ty tx th tw: offsets of the centre in anchor sizes, logarithms of the scaling.
        centres: float32 (N, 2) of the anchors, x y.
        sizes: float32 (N, 2) of the anchors, width height.
    """
    offsets, logarithms = codes[:, 1::-1], codes[:, :1:-1]
    with np.errstate(over="ignore"):
        middle = offsets * sizes + centres
        half = np.exp(logarithms) * sizes / np.float32(2)
    return np.concatenate([middle - half, middle + half], axis=1)


def codes(moves: Array) -> Array:
    """Return moves, float32 (..., 4), dx dy dw dh, in the order of this network's codes: ty tx th tw."""
    return moves[..., [1, 0, 3, 2]]
