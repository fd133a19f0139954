"""Reads the XML that says which objects are in an image of a VOC dataset, as pytorch-ssd reads it.

Files come from users: a document type, which is where XML hides its bombs and its references to other files, is
refused as such (VOC has none), and so is a file larger than any annotation. The standard library's parser fetches
nothing, and bounds on its own what entities may grow to.

Registering a dataset comes through here, on a laptop too: no numpy but for arrays.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from npuq.errors import DatasetError

if TYPE_CHECKING:
    from tasks.protocols import VocObjects

#: The background, label 0, and VOC's 20 kinds of objects.
CLASS_NAMES: Final = (
    "BACKGROUND",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
_LABELS: Final = {name: label for label, name in enumerate(CLASS_NAMES) if label > 0}
_CORNERS: Final = ("xmin", "ymin", "xmax", "ymax")
#: VOC's largest annotation has 10 kB.
MAX_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class VocObject:
    """An object as a file has it: label 1 to 20; x1, y1, x2, y2 in pixels counted from 0."""

    label: int
    box: tuple[float, ...]
    difficult: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """What a file says.

    Attributes:
        objects: of VOC's classes, in the order of the file.
        unknown: names of other objects, which are left out, as pytorch-ssd does.
    """

    objects: tuple[VocObject, ...]
    unknown: tuple[str, ...]


def as_arrays(objects: Sequence[VocObject]) -> "VocObjects":
    """Return objects as the evaluation takes them."""
    import numpy as np

    from tasks.protocols import VocObjects

    return VocObjects(
        boxes=np.array([item.box for item in objects], dtype=np.float32).reshape(-1, 4),
        labels=np.array([item.label for item in objects], dtype=np.int64),
        difficult=np.array([item.difficult for item in objects], dtype=bool),
    )


def parse(content: bytes, path: str) -> Annotation:
    """Read an annotation file.

    Names are compared without case and surrounding blanks. Corners become numbers from 0: one less than in the file. An
    object that does not say whether it is difficult is not.

    Args:
        content: of the file.
        path: its name, for errors.

    Raises:
        DatasetError: naming the file: it is no annotation, or one that was made to do harm.
    """
    if len(content) > MAX_BYTES:
        raise _broken(path, f"it has {len(content)} bytes")
    try:
        root = ET.fromstring(content, parser=ET.XMLParser(target=_PlainTree()))  # noqa: S314 - see `_PlainTree`
    except ET.ParseError as error:
        raise _broken(path, f"it is no XML: {error}") from error
    except (ValueError, LookupError) as error:  # a document type; an encoding that nobody knows
        raise _broken(path, str(error)) from error
    found = [(_name(item, path), item) for item in root.findall("object")]
    return Annotation(
        objects=tuple(
            VocObject(label=_LABELS[name], box=tuple(_box(item, path)), difficult=_is_difficult(item, path))
            for name, item in found
            if name in _LABELS
        ),
        unknown=tuple(name for name, _ in found if name not in _LABELS),
    )


class _PlainTree(ET.TreeBuilder):
    """Builds a tree, unless the file declares a document type."""

    def doctype(self, *_declared: str | None) -> None:
        """Refuse it; nothing that it declares becomes part of the tree."""
        raise ValueError("it declares a document type, which no VOC annotation does")


def _name(item: ET.Element, path: str) -> str:
    name = (item.findtext("name") or "").strip().lower()
    if not name:
        raise _broken(path, "an object has no name")
    return name


def _box(item: ET.Element, path: str) -> Iterator[float]:
    """Yield x1, y1, x2, y2, counted from 0."""
    for corner in _CORNERS:
        text = item.findtext(f"bndbox/{corner}") or ""
        value = _number(text)
        if not math.isfinite(value):
            raise _broken(path, f"an object's {corner} is {text[:40]!r}, which is no number")
        yield value - 1


def _is_difficult(item: ET.Element, path: str) -> bool:
    text = (item.findtext("difficult") or "").strip() or "0"
    if text not in ("0", "1"):
        raise _broken(path, f"an object is {text[:40]!r} difficult, neither 0 nor 1")
    return text == "1"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _broken(path: str, how: str) -> DatasetError:
    return DatasetError(f"The annotation {path} cannot be used: {how}. Replace it with the original.")
