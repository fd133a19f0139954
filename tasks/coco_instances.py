"""The content of a COCO annotation file: parsed, checked, and brought down to what scoring needs. Touches no disk."""

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, Final

_LISTS: Final = ("images", "annotations", "categories")
_BOX: Final = len(("x", "y", "width", "height"))
_SHOWN: Final = 3


def parse(content: bytes) -> dict[str, list[dict[str, Any]]]:
    """Return `images`, `annotations` and `categories` of an annotation file; nothing within them is checked.

    Raises:
        ValueError: it is no JSON, or no object with these three lists of objects.
    """
    try:
        document = json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deep for an annotation file") from error
    except ValueError as error:
        raise ValueError(f"no JSON, or damaged ({error})") from error
    lists = {name: document.get(name) for name in _LISTS} if isinstance(document, dict) else {}
    wrong = [name for name in _LISTS if not _is_list_of_objects(lists.get(name))]
    if wrong:
        raise ValueError(f"it has no list of objects {' and no list of objects '.join(map(repr, wrong))}")
    return {name: lists[name] or [] for name in _LISTS}


def problems(document: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return why a parsed file cannot be scored against; empty when it can."""
    images, annotations, categories = (document[name] for name in _LISTS)
    found = [
        *([] if images else ["it lists no image"]),
        *_failing("images without an id and a plain file_name", images, _is_image),
        *_failing("categories without an id and a name", categories, _is_category),
        *_failing("annotations without numbers for id, image_id, category_id, bbox, area", annotations, _is_object),
    ]
    if found:
        return found
    image_ids = {image["id"] for image in images}
    category_ids = {category["id"] for category in categories}
    strangers = [entry["id"] for entry in annotations if entry["image_id"] not in image_ids]
    nameless = [entry["id"] for entry in annotations if entry["category_id"] not in category_ids]
    return [
        *_doubled("image ids", (image["id"] for image in images)),
        *_doubled("image names", (stem(image["file_name"]) for image in images)),
        *_doubled("category ids", (category["id"] for category in categories)),
        *_doubled("annotation ids", (entry["id"] for entry in annotations)),
        *([f"{len(strangers)} annotations of images that are not listed: {some(strangers)}"] if strangers else []),
        *([f"{len(nameless)} annotations of categories that are not listed: {some(nameless)}"] if nameless else []),
    ]


def truth(document: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return what scoring needs of a file without problems; outlines of objects, most of its size, are left out."""
    return {
        "images": [{"id": image["id"], "file_name": image["file_name"]} for image in document["images"]],
        "annotations": [
            {
                "id": entry["id"],
                "image_id": entry["image_id"],
                "category_id": entry["category_id"],
                "bbox": entry["bbox"],
                "area": entry["area"],
                "iscrowd": int(entry.get("iscrowd", 0)),
            }
            for entry in document["annotations"]
        ],
        "categories": [{"id": category["id"], "name": category["name"]} for category in document["categories"]],
    }


def restrict(
    document: Mapping[str, Sequence[Mapping[str, Any]]], image_ids: Collection[int]
) -> dict[str, list[Mapping[str, Any]]]:
    """Return the truth of some images only; all categories stay."""
    return {
        "images": [image for image in document["images"] if image["id"] in image_ids],
        "annotations": [entry for entry in document["annotations"] if entry["image_id"] in image_ids],
        "categories": list(document["categories"]),
    }


def stem(file_name: str) -> str:
    """Return a file name without its suffix: the image's id in npuq."""
    return file_name.rpartition(".")[0] or file_name


def some(items: Iterable[Hashable]) -> str:
    """Return the first few items, for people."""
    listed = [str(item) for item in items]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _failing(
    what: str, entries: Sequence[Mapping[str, Any]], is_good: Callable[[Mapping[str, Any]], bool]
) -> list[str]:
    places = [number for number, entry in enumerate(entries) if not is_good(entry)]
    return [f"{len(places)} {what} (entries {some(places)})"] if places else []


def _doubled(what: str, values: Iterable[Hashable]) -> list[str]:
    doubled = [value for value, count in Counter(values).items() if count > 1]
    return [f"{len(doubled)} {what} used twice: {some(doubled)}"] if doubled else []


def _is_image(image: Mapping[str, Any]) -> bool:
    name = image.get("file_name")
    plain = isinstance(name, str) and bool(name.strip(".")) and not set(name) & set("/\\\0")
    return plain and _is_id(image.get("id"))


def _is_category(category: Mapping[str, Any]) -> bool:
    return _is_id(category.get("id")) and isinstance(category.get("name"), str)


def _is_object(entry: Mapping[str, Any]) -> bool:
    box = entry.get("bbox")
    return (
        all(_is_id(entry.get(key)) for key in ("id", "image_id", "category_id"))
        and isinstance(box, list)
        and len(box) == _BOX
        and all(_is_number(value) for value in box)
        and min(box[2:]) >= 0
        and _is_number(entry.get("area"))
        and entry["area"] >= 0
        and entry.get("iscrowd", 0) in (0, 1)
    )


def _is_id(value: object) -> bool:
    return type(value) is int and value >= 0  # True is an int to Python, and no id


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
