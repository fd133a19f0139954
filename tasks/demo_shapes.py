"""Synthetic pictures for detectors: a few coloured shapes before a noisy ground, with their boxes.

Shapes have a colour each, with jitter: red, yellow, cyan and blue, so that swapped channels make each the colour of
another. Places and sizes are drawn for every picture, so that a detector that only counts finds nothing.
"""

import colorsys
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from tasks.protocols import Array


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one class looks like: corners of a shape in the unit square, clockwise, and a hue on the colour circle."""

    corners: tuple[tuple[float, float], ...]
    hue: float


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A shape in a picture.

    Attributes:
        look: index into `LOOKS`.
        box: x1 y1 x2 y2 in pixels.
        area: of the shape itself, in square pixels.
    """

    look: int
    box: tuple[float, float, float, float]
    area: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A picture, RGB, and what was drawn into it."""

    image: Image.Image
    shapes: tuple[Drawn, ...]


def _round(corners: int) -> tuple[tuple[float, float], ...]:
    angles = [2 * math.pi * number / corners for number in range(corners)]
    return tuple((0.5 + 0.5 * math.cos(angle), 0.5 + 0.5 * math.sin(angle)) for angle in angles)


LOOKS: Final = (
    Look(corners=_round(32), hue=0.03),
    Look(corners=((0.5, 0.0), (1.0, 1.0), (0.0, 1.0)), hue=0.17),
    Look(corners=((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)), hue=0.5),
    Look(corners=((0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)), hue=0.64),
)

_SHORT_SIDE: Final = (150, 300)  # pixels
_MAX_ASPECT: Final = 1.5
_MOST: Final = 3  # shapes in a picture
_EMPTY: Final = 0.1  # of all pictures
_EXTENT: Final = (0.22, 0.46)  # of a shape's longer side, in longer sides of the picture
_SQUASHED: Final = (0.6, 1.0)
_TOUCHING: Final = 0.05  # of the smaller box, before two shapes are too close
_TRIES: Final = 40
_HUE_JITTER: Final = 0.025
_NOISE: Final = 14.0  # grey levels
_FINER: Final = 4  # drawn at this scale, for smooth edges


def scenes(count: int, *, seed: int) -> Iterator[Scene]:
    """Yield pictures; those of one seed are the beginning of more of the same seed."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield _draw(generator)


def _draw(generator: np.random.Generator) -> Scene:
    width, height = _size(generator)
    placed = _place(generator, width, height)
    colour = _colour(generator.random(), generator.uniform(0, 0.2), generator.uniform(0.25, 0.75))
    canvas = Image.new("RGB", (width * _FINER, height * _FINER), colour)
    pen = ImageDraw.Draw(canvas)
    for drawn in placed:
        hue = LOOKS[drawn.look].hue + generator.normal(0, _HUE_JITTER)
        fill = _colour(hue, generator.uniform(0.75, 1), generator.uniform(0.6, 1))
        pen.polygon([(x * _FINER, y * _FINER) for x, y in _outline(drawn)], fill=fill)
    plain = np.asarray(canvas.reduce(_FINER), dtype=np.float32)
    noisy = plain + _NOISE * generator.standard_normal((height, width, 3), dtype=np.float32)
    return Scene(image=Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)), shapes=placed)


def _size(generator: np.random.Generator) -> tuple[int, int]:
    short = int(generator.integers(*_SHORT_SIDE))
    long = int(short * generator.uniform(1, _MAX_ASPECT))
    return (short, long) if generator.random() < 0.5 else (long, short)  # noqa: PLR2004 - a fair coin


def _place(generator: np.random.Generator, width: int, height: int) -> tuple[Drawn, ...]:
    """Draw boxes until enough lie apart from each other; some pictures get none."""
    wanted = 0 if generator.random() < _EMPTY else int(generator.integers(1, _MOST + 1))
    placed: list[Drawn] = []
    for _ in range(_TRIES):
        if len(placed) == wanted:
            break
        sides = np.array([1.0, generator.uniform(*_SQUASHED)]) * generator.uniform(*_EXTENT) * max(width, height)
        wide, high = np.minimum(generator.permutation(sides), [0.95 * width, 0.95 * height])
        x, y = generator.uniform([0, 0], [width - wide, height - high])
        box = (round(x, 2), round(y, 2), round(x + wide, 2), round(y + high, 2))
        look = int(generator.integers(len(LOOKS)))
        if all(_shared(box, other.box) <= _TOUCHING for other in placed):
            placed.append(Drawn(look=look, box=box, area=_area(box, look)))
    return tuple(placed)


def _shared(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return max(wide, 0) * max(high, 0) / smaller


def _outline(drawn: Drawn) -> list[tuple[float, float]]:
    x1, y1, x2, y2 = drawn.box
    return [(x1 + x * (x2 - x1), y1 + y * (y2 - y1)) for x, y in LOOKS[drawn.look].corners]


def _area(box: tuple[float, float, float, float], look: int) -> float:
    corners: Array = np.array(LOOKS[look].corners)
    following = np.roll(corners, -1, axis=0)
    unit = abs(float(np.sum(corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]))) / 2
    return round(unit * (box[2] - box[0]) * (box[3] - box[1]), 2)


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
