"""A picture as the network wants it, by the guide's script: Pillow, squeezed to a square, three numbers per pixel."""

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from tasks import images
from tasks.protocols import Sample
from tasks.recipes.ssd_mobilenetv2.priors import INPUT_SIZE

_MEAN: Final = np.float32(127)
_SCALE: Final = np.float32(128)


def prepare(path: Path) -> Sample:
    """Read and prepare a picture.

    The whole picture is resized to 300 x 300 (bilinear, antialiased), its aspect is not kept.

    Returns:
        float32 (3, 300, 300), RGB, (grey level - 127) / 128; meta `width` and `height` of the original in pixels, as
        stored: EXIF rotation is ignored for both, so that boxes stay on what the network saw.

    Raises:
        DatasetError: naming a file that cannot be read.
    """
    image = images.read_rgb(path)
    square = image.resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR)
    planes = np.asarray(square, dtype=np.float32).transpose(2, 0, 1)
    return Sample(
        array=np.ascontiguousarray((planes - _MEAN) / _SCALE), meta={"width": image.width, "height": image.height}
    )
