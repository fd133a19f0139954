"""From a picture to the network's input, bit for bit as effdet's loader does: scaled, put top left, normalised."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from tasks import images
from tasks.protocols import Array, Sample
from tasks.recipes.efficientdet_d0.shapes import SIDE

MEAN: Final = (0.485, 0.456, 0.406)  #: ImageNet's, RGB, of values in [0, 1]
STD: Final = (0.229, 0.224, 0.225)

_FILL: Final = tuple(round(255 * mean) for mean in MEAN)  # (124, 116, 104): close to zero once normalised
_MEAN_255: Final = np.array([255 * mean for mean in MEAN], dtype=np.float32)[:, None, None]
_STD_255: Final = np.array([255 * std for std in STD], dtype=np.float32)[:, None, None]


def prepare(path: Path) -> Sample:
    """Return float32 (3, 512, 512) of a picture, and what `original_size` needs of it.

    Raises:
        DatasetError: naming a file that cannot be read.
    """
    square, meta = letterbox(images.read_rgb(path), SIDE)
    return Sample(array=normalise(square), meta=meta)


def letterbox(image: Image.Image, side: int) -> tuple[Image.Image, dict[str, Any]]:
    """Scale a picture, up or down, to fit a square, and fill the rest on the right or at the bottom.

    Sides are cut to whole pixels, but never to none: a very long picture keeps one pixel of its short side.

    Args:
        image: RGB.
        side: of the square, in pixels.

    Returns:
        The square, and what `original_size` needs: `scale` (pixels of the original per pixel of the square), `width`
        and `height` of the original.
    """
    width, height = image.size
    scale = min(side / height, side / width)
    inner = (max(int(width * scale), 1), max(int(height * scale), 1))
    square = Image.new("RGB", (side, side), _FILL)
    square.paste(image.resize(inner, Image.Resampling.BILINEAR))
    return square, {"scale": 1.0 / scale, "width": width, "height": height}


def normalise(image: Image.Image) -> Array:
    """Return float32 (3, H, W), RGB: minus 255 times the mean, divided by 255 times the deviation of the channel."""
    planes = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1), dtype=np.float32)
    planes -= _MEAN_255
    planes /= _STD_255
    return planes


def original_size(meta: Mapping[str, Any]) -> tuple[Array, np.float32]:
    """Return float32 (2,) width and height of the original, and its pixels per pixel of the network's input."""
    return np.array([meta["width"], meta["height"]], dtype=np.float32), np.float32(meta["scale"])
