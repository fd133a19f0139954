"""What the demo's network is to see of a picture: the published transform, said a second time with nothing of ours.

The checkpoint is fitted with it and torch's score is taken with it, so that a mistake in the recipe's own
preprocessing makes the chips disagree with torch. It serves the demo's plain RGB pictures, and is no second recipe.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from tasks.protocols import Array

_SHORT_SIDE: Final = 256
_SEEN: Final = 224
_MEAN: Final = np.array([0.485, 0.456, 0.406])
_DEVIATION: Final = np.array([0.229, 0.224, 0.225])


def network_input(picture: Path) -> "Array":
    """Return float32 (3, 224, 224), RGB: the middle of the picture at a short side of 256, in ImageNet's deviations."""
    with Image.open(picture) as image:
        width, height = image.size
        larger = max(width, height) * _SHORT_SIDE // min(width, height)
        size = (_SHORT_SIDE, larger) if width < height else (larger, _SHORT_SIDE)
        left, top = (round((side - _SEEN) / 2) for side in size)
        resized = image.resize(size, Image.Resampling.BILINEAR)
        pixels = np.asarray(resized, dtype=np.float64)[top : top + _SEEN, left : left + _SEEN]
    seen: Array = np.moveaxis((pixels / 255.0 - _MEAN) / _DEVIATION, 2, 0).astype(np.float32)
    return seen
