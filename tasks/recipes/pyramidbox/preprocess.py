"""A picture as the network wants it, by the guide's script: OpenCV, put top left in a square, its mean taken off.

The guide has two sets: the pictures as they are, and mirrored ones. The same scale and the same padding for both: the
mirrored picture is padded on its right again.
"""

from pathlib import Path
from typing import Final

import numpy as np

from tasks import images
from tasks.protocols import Array, Sample

ORIGINAL: Final = "original"
FLIPPED: Final = "flipped"
MEAN: Final = (123, 117, 104)  #: of RGB grey levels; padding is 0 before it is taken off
_MEAN_PLANES: Final = np.array(MEAN, dtype=np.float32)[:, None, None]


def prepare(path: Path, pass_name: str, side: int) -> Sample:
    """Read and prepare a picture.

    Args:
        path: of the picture; EXIF rotation is ignored, as the boxes of WIDER FACE want it.
        pass_name: `FLIPPED` mirrors the picture, left and right.
        side: of the network's input, in pixels.

    Returns:
        float32 (3, side, side), RGB, grey levels minus `MEAN`; meta `width` and `height` of the original in pixels.

    Raises:
        DatasetError: naming a file that cannot be read.
    """
    pixels = np.asarray(images.read_rgb(path))
    height, width = pixels.shape[:2]
    if pass_name == FLIPPED:
        pixels = pixels[:, ::-1]
    return Sample(array=normalise(letterbox(pixels, side)), meta={"width": width, "height": height})


def letterbox(pixels: Array, side: int) -> Array:
    """Return uint8 (side, side, 3): a picture resized (bilinear, not antialiased) and padded with 0, right and below.

    The longer side fills the square; the shorter one is cut to whole pixels, but never to none.

    Args:
        pixels: uint8 (H, W, 3).
        side: in pixels.
    """
    import cv2

    height, width = pixels.shape[:2]
    scale = max(width, height) / side
    inner = max(int(width / scale), 1), max(int(height / scale), 1)
    resized = cv2.resize(np.ascontiguousarray(pixels), inner)
    square = np.zeros((side, side, 3), dtype=np.uint8)
    square[: inner[1], : inner[0]] = resized
    return square


def normalise(pixels: Array) -> Array:
    """Return float32 (3, H, W): grey levels minus the mean; uint8 (H, W, 3) in, RGB both."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
    planes -= _MEAN_PLANES
    return planes
