"""A small synthetic dataset in COCO's layout: shapes that stand for four of its categories.

What COCO's rules care about is in it: areas unlike the box, pictures without objects, categories without objects, ids
with holes.
"""

import json
from pathlib import Path
from typing import Any, Final

from npuq.errors import InvalidRequestError
from tasks import demo_shapes
from tasks.coco_categories import CATEGORIES
from tasks.datasets_coco import ANNOTATION_FILE, IMAGE_FOLDER

#: Category ids of `demo_shapes.LOOKS`: sports ball, pizza, book, kite; holes in the numbering lie below all of them.
CATEGORY_IDS: Final = (37, 59, 84, 38)

_FIRST_IMAGE_ID: Final = 139  # val2017's
_IMAGE_ID_STEP: Final = 146
_FIRST_OBJECT_ID: Final = 1001
_JPEG_QUALITY: Final = 90


def write(folder: Path, *, images: int, seed: int) -> str:
    """Write `annotations/instances_val2017.json` and `val2017/` into a folder.

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
        raise InvalidRequestError(f"A demo of {images} images shows nothing; ask for 1 or more.")
    if folder.exists() and any(folder.iterdir()):
        raise InvalidRequestError(f"{folder} holds something; name an empty or a new folder for the demo's data.")
    (folder / IMAGE_FOLDER).mkdir(parents=True)
    (folder / ANNOTATION_FILE).parent.mkdir()
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, scene in enumerate(demo_shapes.scenes(images, seed=seed)):
        image_id = _FIRST_IMAGE_ID + _IMAGE_ID_STEP * number
        name = f"{image_id:012d}.jpg"
        save(scene, folder / IMAGE_FOLDER / name)
        listed.append({"id": image_id, "file_name": name, "width": scene.image.width, "height": scene.image.height})
        for drawn in scene.shapes:
            annotations.append(_annotation(_FIRST_OBJECT_ID + len(annotations), image_id, drawn))
    document = {
        "info": {"description": "npuq's synthetic shapes"},
        "images": listed,
        "annotations": annotations,
        "categories": [{"id": category_id, "name": name} for category_id, name in CATEGORIES.items()],
    }
    (folder / ANNOTATION_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return f"{images} images with {len(annotations)} objects of {len(CATEGORY_IDS)} categories"


def save(scene: demo_shapes.Scene, path: Path) -> None:
    """Write a picture as the dataset's are written."""
    scene.image.save(path, "JPEG", quality=_JPEG_QUALITY)


def _annotation(number: int, image_id: int, drawn: demo_shapes.Drawn) -> dict[str, Any]:
    x1, y1, x2, y2 = drawn.box
    return {
        "id": number,
        "image_id": image_id,
        "category_id": CATEGORY_IDS[drawn.look],
        "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
        "area": drawn.area,
        "iscrowd": 0,
    }
