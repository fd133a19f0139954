"""Small synthetic datasets, one for each format, in the format's own layout: to try a fleet on, and to look at.

A format registers what draws and writes its dataset; the modules that do so need numpy and Pillow and are imported when
they are called.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from npuq.errors import InvalidRequestError, ToolMissingError

MAX_IMAGES: Final = 100_000


class DemoWriter(Protocol):
    """Writes a dataset of one format."""

    def __call__(self, folder: Path, *, images: int, seed: int) -> str:
        """Write into an existing, empty folder.

        Args:
            folder: where; afterwards `npuq datasets add` takes it.
            images: how many, from 1 to `MAX_IMAGES`.
            seed: equal seeds give equal bytes (with the same Pillow and numpy).

        Returns:
            What was written, in words: `24 images of 16 classes`.

        Raises:
            InvalidRequestError: the format cannot do with so few images.
        """


def write_imagenet(folder: Path, *, images: int, seed: int) -> str:
    """Write textured discs, one class per image; see `tasks.demo_images`, and `DemoWriter` for the rest."""
    from tasks.demo_images import LEAST_CLASSES, MAX_CLASSES, make_dataset

    classes = min(images, MAX_CLASSES)
    if classes < LEAST_CLASSES:
        raise InvalidRequestError(f"{LEAST_CLASSES} images are the fewest: each class needs one.")
    make_dataset(folder, classes=classes, count=images, seed=seed)
    return f"{images} images of {classes} classes in val, their classes in val_label.txt"


def write_voc(folder: Path, *, images: int, seed: int) -> str:
    """Write coloured shapes of a few of VOC's classes; see `tasks.demo_voc`, and `DemoWriter` for the rest."""
    from tasks import demo_voc

    return demo_voc.write(folder, images=images, seed=seed)


def write_coco(folder: Path, *, images: int, seed: int) -> str:
    """Write coloured shapes of a few of COCO's categories; see `tasks.demo_coco`, and `DemoWriter` for the rest."""
    from tasks import demo_coco

    return demo_coco.write(folder, images=images, seed=seed)


def write_widerface(folder: Path, *, images: int, seed: int) -> str:
    """Write drawn faces of many sizes; see `tasks.demo_widerface`, and `DemoWriter` for the rest."""
    from tasks import demo_widerface

    return demo_widerface.write(folder, images=images, seed=seed)


#: Format, as in `tasks.datasets.FORMATS` -> what writes a dataset of it.
DEMO_SETS: Final[Mapping[str, DemoWriter]] = {
    "imagenet": write_imagenet,
    "voc": write_voc,
    "coco": write_coco,
    "widerface": write_widerface,
}


def write_demo_set(dataset_format: str, folder: Path, *, images: int, seed: int) -> str:
    """Write a dataset where nothing is yet; whole or not at all. Returns what was written, in words.

    Raises:
        InvalidRequestError: an unknown format, a folder that holds something, or a number of images that cannot be.
        ToolMissingError: what draws is not installed.
    """
    writer = DEMO_SETS.get(dataset_format)
    if writer is None:
        raise InvalidRequestError(f"There is no demo of the format {dataset_format!r}. Known: {', '.join(DEMO_SETS)}.")
    if not 1 <= images <= MAX_IMAGES:
        raise InvalidRequestError(f"A demo has 1 to {MAX_IMAGES} images, asked were {images}.")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise InvalidRequestError(f"{folder} holds something already; name an empty or a new folder.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".npuq-demo-") as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            written = writer(made, images=images, seed=seed)
            made.replace(folder)
    except ImportError as error:
        raise ToolMissingError(f"Drawing images: {error}. Install it: pip install 'npuq[worker]'.") from error
    except OSError as error:
        raise InvalidRequestError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return written
