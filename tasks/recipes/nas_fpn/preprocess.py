"""From a picture to the network's input, as the guide's script does with mmcv: fit, normalise, pad on all sides.

Bit for bit what mmcv computes, so the steps are mmcv's: OpenCV subtracts and multiplies with float64 numbers, and
padding comes last, so that its zeros are the mean colour.
"""

from pathlib import Path
from typing import Final

import cv2
import numpy as np

from tasks import images
from tasks.protocols import Array, Sample
from tasks.recipes.nas_fpn.shapes import CANVAS

#: ImageNet's, RGB, of values in [0, 255]; the script holds them as float32 and hands them to OpenCV as float64.
MEAN: Final = np.array([[123.675, 116.28, 103.53]], dtype=np.float32).astype(np.float64)
STD: Final = np.array([[58.395, 57.12, 57.375]], dtype=np.float32).astype(np.float64)


def prepare(path: Path) -> Sample:
    """Return float32 (3, 640, 640), RGB, normalised, and where on this canvas the picture lies.

    Meta, in pixels: `width` and `height` of the picture as read, EXIF rotation applied; `resized_width` and
    `resized_height` on the canvas; `pad_left` and `pad_top` before it there.

    Raises:
        DatasetError: naming a file that cannot be read.
    """
    picture = images.read_bgr(path)
    height, width = picture.shape[:2]
    fitted_width, fitted_height = fitted_size(width, height)
    fitted = cv2.resize(picture, (fitted_width, fitted_height), interpolation=cv2.INTER_LINEAR)
    left, top = (CANVAS - fitted_width) // 2, (CANVAS - fitted_height) // 2
    canvas = np.zeros((3, CANVAS, CANVAS), dtype=np.float32)
    canvas[:, top : top + fitted_height, left : left + fitted_width] = _normalise(fitted).transpose(2, 0, 1)
    meta = {
        "width": width,
        "height": height,
        "resized_width": fitted_width,
        "resized_height": fitted_height,
        "pad_left": left,
        "pad_top": top,
    }
    return Sample(array=canvas, meta=meta)


def fitted_size(width: int, height: int) -> tuple[int, int]:
    """Return the size at which a picture fills the canvas in one direction, larger or smaller than it was.

    Sides are rounded half up. mmcv fails where a side of an extremely narrow picture becomes 0; here it becomes 1.
    """
    factor = CANVAS / max(width, height)
    return max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5))


def _normalise(picture: Array) -> Array:
    """Return float32 (H, W, 3) in RGB order of uint8 (H, W, 3) in BGR order."""
    values = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.float32)
    cv2.subtract(values, MEAN, values)
    cv2.multiply(values, 1 / STD, values)
    return values
