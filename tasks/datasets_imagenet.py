"""ImageNet's validation set as it lies on a host's disk: one folder of images, and one file of labels.

Where things are looked for, first hit wins:

- images: `<root>/val`, else `<root>` itself; there either flat or in one level of class sub-folders;
- labels: `<root>/val_label.txt`, else `val_label.txt` beside the images.

A label line is `ILSVRC2012_val_00000001.JPEG 65`: the class id counts from 0 in the order of sorted WordNet ids. The
ILSVRC devkit's own ids (1 to 1000, another order) are not that; a file with a 1000 in it is refused.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasks.dataset_formats import FoundSample, Survey
from tasks.dataset_images import RegisteredImages
from tasks.dataset_manifest import Manifest
from tasks.steps import DatasetRef

LABEL_FILE: Final = "val_label.txt"
CLASSES: Final = 1000
IMAGE_SUFFIXES: Final = (".jpeg", ".jpg", ".png")
_FOLDER: Final = "val"
_SHOWN: Final = 3


@dataclass(frozen=True, kw_only=True)
class ImageNetDataset(RegisteredImages):
    """An opened dataset; see `tasks.protocols.Dataset` and `ClassLabels`. Each image's label is its class."""

    def label(self, image_id: str) -> int:
        """Return the class id of an image, 0 to 999; raises DatasetError for an unknown id."""
        return int(self.registered(image_id).label)


class ImageNetFormat:
    """The format; see `tasks.dataset_formats.DatasetFormat`. The labels are in the manifest, one per image."""

    def survey(self, root: Path) -> Survey:
        """Find the images and their labels."""
        problems: list[str] = []
        notes: list[str] = []
        files = _index_images(root, problems)
        annotations = _read_label_file(root)
        labels: dict[str, int] = {}
        if not files:
            problems.append(f"no images (*.JPEG) in {_image_folder(root)}")
        for content in annotations.values():
            labels = _parse_labels(content, problems)
            unlabelled = [image_id for image_id in files if image_id not in labels]
            if unlabelled:
                problems.append(f"{len(unlabelled)} images without a label in {LABEL_FILE}: {_some(unlabelled)}")
        if not annotations:
            problems.append(f"no {LABEL_FILE} in {root}")
        absent = [image_id for image_id in labels if image_id not in files]
        if absent:
            notes.append(f"labels without an image: {len(absent)} ({_some(absent)})")
        return Survey(
            samples=tuple(
                FoundSample(image_id=image_id, path=path, label=labels.get(image_id))
                for image_id, path in files.items()
            ),
            annotations=annotations,
            problems=tuple(problems),
            notes=tuple(notes),
        )

    def image_sizes(self, root: Path) -> dict[str, int]:
        """List the images."""
        return {path: entry.stat().st_size for path, entry in _image_files(root)}

    def open(self, ref: DatasetRef, manifest: Manifest, annotations: Mapping[str, bytes]) -> ImageNetDataset:
        """Take everything from the manifest."""
        del annotations  # its labels became part of the manifest
        entries = {sample.image_id: sample for sample in manifest.samples}
        return ImageNetDataset(ref=ref, entries=entries)


def _image_folder(root: Path) -> Path:
    return root / _FOLDER if (root / _FOLDER).is_dir() else root


def _index_images(root: Path, problems: list[str]) -> dict[str, str]:
    """Return image id -> relative path, in sorted order of the ids."""
    found: dict[str, str] = {}
    doubled: list[str] = []
    for path, _ in _image_files(root):
        image_id = Path(path).stem
        if image_id in found:
            doubled.append(f"{path} and {found[image_id]}")
        else:
            found[image_id] = path
    if doubled:
        problems.append(f"{len(doubled)} image names used twice: {_some(doubled)}")
    return dict(sorted(found.items()))


def _image_files(root: Path) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Yield relative paths and images of the folder and of its sub-folders, one level deep, in sorted order."""
    folder = _image_folder(root)
    prefix = "" if folder == root else f"{_FOLDER}/"
    for entry in _entries(folder):
        if entry.is_dir():
            for inner in _entries(Path(entry.path)):
                if _is_image(inner.name):
                    yield f"{prefix}{entry.name}/{inner.name}", inner
        elif _is_image(entry.name):
            yield f"{prefix}{entry.name}", entry


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def _read_label_file(root: Path) -> dict[str, bytes]:
    """Return relative path -> content of the label file; empty where there is none."""
    for path in (root / LABEL_FILE, _image_folder(root) / LABEL_FILE):
        if path.is_file():
            return {path.relative_to(root).as_posix(): path.read_bytes()}
    return {}


def _parse_labels(content: bytes, problems: list[str]) -> dict[str, int]:
    """Return image id -> class id of every line that can be read."""
    labels: dict[str, int] = {}
    malformed: list[str] = []
    for number, line in enumerate(content.decode("utf-8-sig", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        name, label = _parse_label(line)
        if label is None or labels.get(name, label) != label:
            malformed.append(f"line {number} ({line.strip()[:60]!r})")
        else:
            labels[name] = label
    if malformed:
        problems.append(
            f"{len(malformed)} lines of {LABEL_FILE} are not `NAME.JPEG CLASS` with one class from 0 to {CLASSES - 1} "
            f"per name: {_some(malformed)}"
        )
    if CLASSES in labels.values():
        problems.append(
            f"{LABEL_FILE} holds the class {CLASSES}: these are the ILSVRC devkit's ids, which start at 1 and have "
            "another order; wanted is the position of the WordNet id among all sorted ones, from 0"
        )
    return labels


def _parse_label(line: str) -> tuple[str, int | None]:
    """Return image id and class id; None where the line is not one. A class of 1000 is let through, to be explained."""
    words = line.rsplit(maxsplit=1)
    if len(words) != 2 or re.fullmatch(r"[0-9]{1,4}", words[1]) is None:  # noqa: PLR2004 - name and class
        return line, None
    name, label = words[0].strip(), int(words[1])
    image_id = Path(name).stem if _is_image(name) else name
    return image_id, label if label <= CLASSES else None


def _some(items: list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
