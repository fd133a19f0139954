"""Reads images and brings them to size, exactly as the published scripts do with Pillow or with OpenCV.

Every grey level counts here: a different filter, rounding or colour order moves accuracy by whole percents.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
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

#: Pixels of a long side; more are not made of an image whose short side is resized.
_LONGEST_RESIZED: Final = 2**16


def read_rgb(path: Path) -> Image.Image:
    """Read an image whole, as RGB; grey, palette, CMYK and alpha are converted, EXIF rotation is ignored.

    Raises:
        DatasetError: naming the file, when it is gone, cannot be read, is damaged, or has more than 179 million pixels.
    """
    with _errors_naming(path), Image.open(path) as image:
        return image.convert("RGB")


def read_bgr(path: Path) -> Array:
    """Read an image whole with OpenCV, as mmcv does: EXIF rotation is applied, alpha dropped, 16 bits cut to 8.

    Pillow decodes the file as well, and first: it refuses what OpenCV may fill up with grey (a file cut short), and it
    bounds the size before anything is allocated.

    Returns:
        uint8 (H, W, 3), in BGR order.

    Raises:
        DatasetError: naming the file, when it is gone, cannot be read, is damaged, or has more than 179 million pixels.
    """
    with _errors_naming(path):
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.load()
        return _decode_bgr(content)


def _decode_bgr(content: bytes) -> Array:
    """Raise ValueError for what OpenCV cannot decode."""
    import cv2

    try:
        pixels: Array | None = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ValueError(str(error)) from error
    if pixels is None:
        raise ValueError("OpenCV cannot decode it")
    return pixels


@contextmanager
def _errors_naming(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is read into a DatasetError that names it."""
    try:
        # Warnings speak of metadata that is not used here (EXIF, transparency of palettes), and of large pictures.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
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

    An image whose short side already has that size is returned as it is. Of a line that would become an enormous
    picture, only the middle is made, so that a few bytes cannot fill the memory; a centre crop of it is the same within
    one grey level.
    """
    width, height = image.size
    if min(width, height) == size:
        return image
    target = (size, int(size * height / width)) if width < height else (int(size * width / height), size)
    excess = max(0, max(target) - _LONGEST_RESIZED) // 4 * 2  # at either end; even, as `centre_crop` rounds to even
    cut_x, cut_y = (0, excess) if width < height else (excess, 0)
    step_x, step_y = width / target[0], height / target[1]
    return image.resize(
        (target[0] - 2 * cut_x, target[1] - 2 * cut_y),
        Image.Resampling.BILINEAR,
        box=(cut_x * step_x, cut_y * step_y, width - cut_x * step_x, height - cut_y * step_y),
    )


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
