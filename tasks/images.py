"""Reads images and brings them to size, exactly as the published scripts do with Pillow.

Every grey level counts here: a different filter, rounding or colour order moves accuracy by whole percents.
"""

import struct
import warnings
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from npuq.errors import Blame, DatasetError
from tasks.protocols import Array

#: What Pillow's decoders raise on damaged bytes; a plain OSError without an errno is Pillow's own ("truncated").
_DECODING_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read_rgb(path: Path) -> Image.Image:
    """Read an image whole, as RGB; grey, palette, CMYK and alpha are converted, EXIF rotation is ignored.

    Raises:
        DatasetError: naming the file, when it is gone, cannot be read or is damaged.
    """
    try:
        # Warnings speak of metadata that is not used here (EXIF, transparency of palettes).
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            with Image.open(path) as image:
                return image.convert("RGB")
    except FileNotFoundError as error:
        raise DatasetError(
            f"The image {path} is gone. Put it back, or register the folder again (npuq datasets add) and submit again."
        ) from error
    except _DECODING_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DatasetError(
                f"The image {path} cannot be read: {error.strerror}. Check the host's disk and permissions.",
                blame=Blame.HOST,
                retry=True,
            ) from error
        raise DatasetError(
            f"The image {path} is damaged: {error}. Put the original in its place, register the folder again "
            "(npuq datasets add) and submit the run again."
        ) from error


def resize_short_side(image: Image.Image, size: int) -> Image.Image:
    """Resize (bilinear, antialiased) so that the short side has `size` pixels; the long side is cut to whole pixels.

    An image whose short side already has that size is returned as it is.
    """
    width, height = image.size
    if min(width, height) == size:
        return image
    target = (size, int(size * height / width)) if width < height else (int(size * width / height), size)
    return image.resize(target, Image.Resampling.BILINEAR)


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """Cut the middle `size` x `size` pixels; an odd margin is halved with Python's rounding to even."""
    width, height = image.size
    left = round((width - size) / 2.0)
    top = round((height - size) / 2.0)
    return image.crop((left, top, left + size, top + size))


def normalise(image: Image.Image, *, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Array:
    """Return float32 (3, H, W) in RGB order: value / 255, minus the mean, divided by the deviation of its channel."""
    planes = np.asarray(image, dtype=np.float32).transpose(2, 0, 1)
    scaled = planes / np.float32(255)
    centred = scaled - np.array(mean, dtype=np.float32)[:, None, None]
    return np.ascontiguousarray(centred / np.array(std, dtype=np.float32)[:, None, None])
