"""Pascal VOC's test set as it lies on a host's disk: `JPEGImages/`, `Annotations/`, `ImageSets/Main/test.txt`.

These three are looked for in the folder itself, in its `VOC2007`, in its `VOCdevkit/VOC2007`, first hit wins. The list
says which images there are and in which order; other images beside them do not count.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from npuq.errors import DatasetError
from tasks import voc_annotations
from tasks.dataset_formats import FoundSample, Survey
from tasks.dataset_images import RegisteredImages
from tasks.dataset_manifest import Manifest
from tasks.steps import DatasetRef
from tasks.voc_annotations import Annotation

if TYPE_CHECKING:
    from tasks.protocols import VocObjects

LIST_FILE: Final = "ImageSets/Main/test.txt"
IMAGE_FOLDER: Final = "JPEGImages"
ANNOTATION_FOLDER: Final = "Annotations"
#: VOC's own suffix first: where an image lies there twice, that one is meant.
IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png")
_PLACES: Final = (".", "VOC2007", "VOCdevkit/VOC2007")
_SHOWN: Final = 3


@dataclass(frozen=True, kw_only=True)
class VocDataset(RegisteredImages):
    """An opened dataset; see `tasks.protocols.Dataset` and `VocTruth`. `annotations`: by image id."""

    annotations: Mapping[str, Annotation]
    class_names: tuple[str, ...] = field(default=voc_annotations.CLASS_NAMES)

    def objects(self, image_id: str) -> "VocObjects":
        """Return the objects of an image, maybe none; raises DatasetError for an unknown id."""
        self.registered(image_id)
        return voc_annotations.as_arrays(self.annotations[image_id].objects)


class VocFormat:
    """The format; see `tasks.dataset_formats.DatasetFormat`. The truth stays in the annotation files."""

    def survey(self, root: Path) -> Survey:
        """Read the list, look for the images in it, and read their annotations."""
        base = _base(root)
        problems = [f"no {part} in {base}" for part in _parts() if not (base / part).exists()]
        if problems:
            return Survey(samples=(), annotations={}, problems=tuple(problems))
        listed = (base / LIST_FILE).read_bytes()
        image_ids = _image_ids(listed, problems)
        images = _images(base, image_ids)
        _complain(problems, "listed images are not in JPEGImages", [key for key in image_ids if key not in images])
        contents = _annotation_contents(base, image_ids)
        _complain(problems, "listed images have no annotation", [key for key in image_ids if key not in contents])
        notes = _look_into(contents, problems)
        prefix = _prefix(root, base)
        return Survey(
            samples=tuple(
                FoundSample(image_id=image_id, path=f"{prefix}{IMAGE_FOLDER}/{images[image_id].name}")
                for image_id in image_ids
                if image_id in images
            ),
            annotations={
                f"{prefix}{LIST_FILE}": listed,
                **{f"{prefix}{_annotation(image_id)}": content for image_id, content in contents.items()},
            },
            problems=tuple(problems),
            notes=tuple(notes),
        )

    def image_sizes(self, root: Path) -> dict[str, int]:
        """Look at the listed images; reads the list, but no annotation."""
        base = _base(root)
        if not ((base / LIST_FILE).exists() and (base / IMAGE_FOLDER).exists()):
            return {}
        prefix = _prefix(root, base)
        images = _images(base, _image_ids((base / LIST_FILE).read_bytes(), []))
        return {f"{prefix}{IMAGE_FOLDER}/{entry.name}": entry.stat().st_size for entry in images.values()}

    def open(self, ref: DatasetRef, manifest: Manifest, annotations: Mapping[str, bytes]) -> VocDataset:
        """Read the annotations; raises DatasetError naming a file that this version cannot read."""
        by_image = {Path(path).stem: path for path in annotations if path.endswith(".xml")}
        entries = {sample.image_id: sample for sample in manifest.samples}
        return VocDataset(
            ref=ref,
            entries=entries,
            annotations={
                image_id: voc_annotations.parse(annotations[by_image[image_id]], by_image[image_id])
                for image_id in entries
            },
        )


def _parts() -> tuple[str, ...]:
    return LIST_FILE, IMAGE_FOLDER, ANNOTATION_FOLDER


def _base(root: Path) -> Path:
    """Return the folder that holds the three parts; the root itself where none has any."""
    places = [root / place for place in _PLACES]
    return next((place for place in places if any((place / part).exists() for part in _parts())), root)


def _prefix(root: Path, base: Path) -> str:
    return "" if base == root else f"{base.relative_to(root).as_posix()}/"


def _annotation(image_id: str) -> str:
    return f"{ANNOTATION_FOLDER}/{image_id}.xml"


def _image_ids(listed: bytes, problems: list[str]) -> list[str]:
    """Return the ids in the list, each once; what is no id or there twice is a problem."""
    lines = [line.strip() for line in listed.decode("utf-8-sig", errors="replace").splitlines()]
    lines = [line for line in lines if line]
    names = [line for line in lines if re.fullmatch(r"[\w.-]+", line) and not line.startswith(".")]
    image_ids = list(dict.fromkeys(names))
    if len(names) < len(lines):
        odd = [repr(line[:60]) for line in lines if line not in image_ids]
        problems.append(
            f"{len(odd)} lines of {LIST_FILE} are not the name of an image alone: {_some(odd)}; lists of one class, "
            "such as dog_test.txt, are not meant"
        )
    _complain(problems, f"images are twice in {LIST_FILE}", [key for key, count in Counter(names).items() if count > 1])
    if not lines:
        problems.append(f"{LIST_FILE} is empty")
    return image_ids


def _images(base: Path, image_ids: Iterable[str]) -> dict[str, "os.DirEntry[str]"]:
    """Return image id -> file, of those that are there."""
    with os.scandir(base / IMAGE_FOLDER) as entries:
        there = {(Path(entry.name).stem, Path(entry.name).suffix.lower()): entry for entry in entries}
    found = {}
    for image_id in image_ids:
        entry = next((there[image_id, suffix] for suffix in IMAGE_SUFFIXES if (image_id, suffix) in there), None)
        if entry is not None and entry.is_file():
            found[image_id] = entry
    return found


def _annotation_contents(base: Path, image_ids: Iterable[str]) -> dict[str, bytes]:
    found = {}
    for image_id in image_ids:
        try:
            found[image_id] = (base / _annotation(image_id)).read_bytes()
        except FileNotFoundError:
            continue
    return found


def _look_into(contents: Mapping[str, bytes], problems: list[str]) -> list[str]:
    """Read all annotations; returns what is odd but harmless."""
    read: list[Annotation] = []
    broken: list[str] = []
    for image_id, content in contents.items():
        try:
            read.append(voc_annotations.parse(content, _annotation(image_id)))
        except DatasetError as error:
            broken.append(error.info.message)
    if broken:
        problems.append(f"{len(broken)} annotations cannot be read: {' '.join(broken[:_SHOWN])}".rstrip("."))
    if read and all(item.difficult for annotation in read for item in annotation.objects):
        problems.append("no annotation names an object of VOC's classes that is not difficult")
    unknown = sorted({name for annotation in read for name in annotation.unknown})
    objects = sum(len(annotation.unknown) for annotation in read)
    empty = sum(not annotation.objects for annotation in read)
    notes = [f"{objects} objects of classes that VOC does not have are left out: {_some(unknown)}"] if unknown else []
    return notes + ([f"{empty} images show no object"] if empty else [])


def _complain(problems: list[str], what: str, image_ids: Sequence[str]) -> None:
    if image_ids:
        problems.append(f"{len(image_ids)} {what}: {_some(image_ids)}")


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
