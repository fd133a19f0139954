"""Synthetic pictures that a network can learn and that punish mistakes, in ImageNet's own layout.

Each class is a colour and a texture: a textured disc before a noisy background, with jitter in place, size, angle,
colour and light. Red and blue classes share textures, so that swapped channels confuse them; textures differ in spatial
frequency, so that another resize does.
"""

import colorsys
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from npuq.errors import InvalidRequestError
from tasks.datasets_imagenet import CLASSES, LABEL_FILE
from tasks.protocols import Array


@dataclass(frozen=True, kw_only=True)
class Texture:
    """A pattern.

    Attributes:
        shape: `stripes`, `checks` or `discs`.
        cycles: periods along the short side of the picture.
    """

    shape: str
    cycles: float


HUES: Final = (0.0, 0.1, 0.36, 0.62)  #: red, orange, green, blue, on the colour circle
TEXTURES: Final = (
    Texture(shape="stripes", cycles=26),
    Texture(shape="stripes", cycles=17),
    Texture(shape="checks", cycles=9),
    Texture(shape="discs", cycles=9),
)
MAX_CLASSES: Final = len(HUES) * len(TEXTURES)
LEAST_CLASSES: Final = 2  #: one class is nothing to tell apart

_SHORT_SIDE: Final = (170, 310)  # pixels, below and above what networks resize to
_MAX_ASPECT: Final = 2.0
_HUE_JITTER: Final = 0.025
_NOISE: Final = 18.0  # grey levels
_JPEG_QUALITY: Final = 88
_THREADS: Final = 2  # most of a picture is drawn and encoded outside Python's lock


def class_ids(classes: int) -> tuple[int, ...]:
    """Return the class ids used, spread evenly over 0 to 999.

    Raises:
        InvalidRequestError: fewer than two classes, or more than there are looks.
    """
    if not LEAST_CLASSES <= classes <= MAX_CLASSES:
        raise InvalidRequestError(f"Demo data can have {LEAST_CLASSES} to {MAX_CLASSES} classes, asked were {classes}.")
    return tuple(round(step * (CLASSES - 1) / (classes - 1)) for step in range(classes))


def write_images(folder: Path, *, classes: int, count: int, seed: int) -> dict[str, int]:
    """Write `ILSVRC2012_val_00000001.JPEG` and so on, classes in balanced, shuffled order.

    Args:
        folder: existing folder.
        classes: 2 to `MAX_CLASSES`.
        count: number of images.
        seed: equal seeds give equal bytes (with the same Pillow and numpy).

    Returns:
        file name -> class id, in order.
    """
    ids = class_ids(classes)
    looks = np.random.default_rng(seed).permutation(np.arange(count) % classes)

    def write(number: int, look: int) -> str:
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        generator = np.random.default_rng([seed, number])  # of its own, whoever draws it
        draw(look, generator).save(folder / name, "JPEG", quality=_JPEG_QUALITY)
        return name

    with ThreadPoolExecutor(_THREADS) as threads:
        names = threads.map(write, range(1, count + 1), map(int, looks))
        return {name: ids[look] for name, look in zip(names, looks, strict=True)}


def make_dataset(root: Path, *, classes: int, count: int, seed: int) -> None:
    """Write a dataset that `tasks.datasets` reads as `imagenet`: `val/*.JPEG` and `val_label.txt`."""
    (root / "val").mkdir(parents=True)
    labels = write_images(root / "val", classes=classes, count=count, seed=seed)
    lines = [f"{name} {label}\n" for name, label in labels.items()]
    (root / LABEL_FILE).write_text("".join(lines), encoding="ascii")


def draw(look: int, generator: np.random.Generator) -> Image.Image:
    """Return one RGB picture of a look, 0 to `MAX_CLASSES` - 1."""
    hue = HUES[look % len(HUES)] + generator.normal(0, _HUE_JITTER)
    texture = TEXTURES[(look // len(HUES) + look) % len(TEXTURES)]
    width, height = _size(generator)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(min(width, height))
    light = _weave(texture, x, y, generator)[..., None]
    bright = _colour(hue, generator.uniform(0.55, 0.95), generator.uniform(0.6, 1.0))
    dark = bright * generator.uniform(0.15, 0.5)
    ground = _colour(generator.random(), generator.uniform(0, 0.25), generator.uniform(0.2, 0.8))
    centre_x = float(x[-1, -1]) / 2 + generator.normal(0, 0.08)
    centre_y = float(y[-1, -1]) / 2 + generator.normal(0, 0.08)
    inside = (x - centre_x) ** 2 + (y - centre_y) ** 2 < generator.uniform(0.33, 0.5) ** 2
    picture = np.where(inside[..., None], light * bright + (1 - light) * dark, ground) * 255
    grain = generator.standard_normal((height, width, 1), dtype=np.float32)
    colour_grain = generator.standard_normal((height, width, 3), dtype=np.float32)
    noisy = picture + _NOISE * grain + _NOISE / 2 * colour_grain
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def _size(generator: np.random.Generator) -> tuple[int, int]:
    short = int(generator.integers(*_SHORT_SIDE))
    long = int(short * generator.uniform(1, _MAX_ASPECT))
    return (short, long) if generator.random() < 0.5 else (long, short)  # noqa: PLR2004 - a fair coin


def _weave(texture: Texture, x: Array, y: Array, generator: np.random.Generator) -> Array:
    """Return the brightness of a texture, float32 (H, W) in [0, 1]."""
    angle = generator.normal(0, 0.15)
    frequency = 2 * math.pi * texture.cycles * generator.uniform(0.95, 1.05)
    cosine, sine = frequency * math.cos(angle), frequency * math.sin(angle)
    across = np.sin(x * cosine + y * sine + generator.uniform(0, 2 * math.pi))
    if texture.shape == "stripes":
        return np.asarray(0.5 + 0.5 * across, dtype=np.float32)
    along = np.sin(y * cosine - x * sine + generator.uniform(0, 2 * math.pi))
    lit = across * along > 0 if texture.shape == "checks" else across + along > 0.9  # noqa: PLR2004 - round spots
    return np.asarray(lit, dtype=np.float32)


def _colour(hue: float, saturation: float, value: float) -> Array:
    rgb: Sequence[float] = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return np.array(rgb, dtype=np.float32)
