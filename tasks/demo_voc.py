"""A small synthetic dataset in Pascal VOC's layout: shapes that stand for four of its classes.

What VOC's rules care about is in it: pictures without objects, classes without objects, difficult objects, corners that
count from 1.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from npuq.errors import InvalidRequestError
from tasks import demo_shapes
from tasks.datasets_voc import ANNOTATION_FOLDER, IMAGE_FOLDER, LIST_FILE
from tasks.protocols import VocObjects
from tasks.voc_annotations import CLASS_NAMES, VocObject, as_arrays

YEAR: Final = "VOC2007"
#: Labels of `demo_shapes.LOOKS`: aeroplane, car, person, tvmonitor; the first and the last class among them.
LABELS: Final = (1, 7, 15, 20)
_DIFFICULT: Final = 0.08  # of all objects
_JPEG_QUALITY: Final = 92


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture, RGB, and the objects in it, in pixels counted from 0."""

    image: Image.Image
    objects: tuple[VocObject, ...]

    @property
    def truth(self) -> VocObjects:
        """Return the objects as the evaluation takes them."""
        return as_arrays(self.objects)


def write(folder: Path, *, images: int, seed: int) -> str:
    """Write a dataset that `tasks.datasets` reads as `voc`: `VOC2007` with images, annotations and the list.

    Args:
        folder: new or empty.
        images: at least 1.
        seed: equal seeds give equal bytes (with the same Pillow and numpy).

    Returns:
        What was written, in words.

    Raises:
        InvalidRequestError: no picture asked for, or the folder holds something.
    """
    if images < 1:
        raise InvalidRequestError(f"A dataset of {images} images shows nothing; ask for 1 or more.")
    if folder.exists() and any(folder.iterdir()):
        raise InvalidRequestError(f"{folder} holds something; name an empty or a new folder for the demo's data.")
    base = folder / YEAR
    for part in (IMAGE_FOLDER, ANNOTATION_FOLDER, Path(LIST_FILE).parent):
        (base / part).mkdir(parents=True)
    objects = 0
    image_ids = [f"{number:06d}" for number in range(1, images + 1)]
    for image_id, picture in zip(image_ids, pictures(images, seed=seed), strict=True):
        save(picture, base / IMAGE_FOLDER / f"{image_id}.jpg")
        (base / ANNOTATION_FOLDER / f"{image_id}.xml").write_text(_annotation(image_id, picture), encoding="ascii")
        objects += len(picture.objects)
    (base / LIST_FILE).write_text("".join(f"{image_id}\n" for image_id in image_ids), encoding="ascii")
    return f"{images} images with {objects} objects of {len(LABELS)} classes"


def pictures(count: int, *, seed: int) -> Iterator[Picture]:
    """Yield pictures; fewer of one seed are the first ones of more."""
    coin = np.random.default_rng((seed, 1))  # a stream of its own: the pictures are drawn from the seed's
    for scene in demo_shapes.scenes(count, seed=seed):
        objects = tuple(
            VocObject(
                label=LABELS[drawn.look], box=_whole_pixels(drawn.box), difficult=bool(coin.random() < _DIFFICULT)
            )
            for drawn in scene.shapes
        )
        yield Picture(image=scene.image, objects=objects)


def save(picture: Picture, path: Path) -> None:
    """Write the image as JPEG."""
    picture.image.save(path, "JPEG", quality=_JPEG_QUALITY)


def _whole_pixels(box: tuple[float, ...]) -> tuple[float, ...]:
    """Return the first and the last pixel, counted from 0, that a shape covers."""
    x1, y1, x2, y2 = box
    return (math.floor(x1), math.floor(y1), math.ceil(x2) - 1, math.ceil(y2) - 1)


def _annotation(image_id: str, picture: Picture) -> str:
    """Return the file as VOC writes it."""
    width, height = picture.image.size
    lines = [
        "<annotation>",
        f"\t<folder>{YEAR}</folder>",
        f"\t<filename>{image_id}.jpg</filename>",
        f"\t<size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
        "\t<segmented>0</segmented>",
    ]
    for item in picture.objects:
        xmin, ymin, xmax, ymax = (int(corner) + 1 for corner in item.box)
        lines += [
            "\t<object>",
            f"\t\t<name>{CLASS_NAMES[item.label]}</name><pose>Unspecified</pose><truncated>0</truncated>",
            f"\t\t<difficult>{int(item.difficult)}</difficult>",
            f"\t\t<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>",
            "\t</object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])
