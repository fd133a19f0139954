"""ImageNet's validation set as it lies on a host's disk: one folder of images, and one file of labels.

Where things are looked for, first hit wins:

- images: `<root>/val`, else `<root>` itself; there either flat or in one level of class sub-folders;
- labels: `<root>/val_label.txt`, else `val_label.txt` beside the images.

A label line is `ILSVRC2012_val_00000001.JPEG 65`: the class id counts from 0 in the order of sorted WordNet ids. The
ILSVRC devkit's own ids (1 to 1000, another order) are not that; a file with a 1000 in it is refused.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from npuq.errors import DatasetError
from tasks.steps import DatasetRef

LABEL_FILE: Final = "val_label.txt"
CLASSES: Final = 1000
IMAGE_SUFFIXES: Final = frozenset({".jpeg", ".jpg", ".png"})
_SHOWN: Final = 3


@dataclass(frozen=True, kw_only=True)
class ImageNetListing:
    """What lies in the folder, good or bad.

    Attributes:
        files: image id (file stem) -> file, in sorted order of the ids.
        labels: image id -> class id, of every line of the label file that could be read.
        label_bytes: the label file as it is; empty when there is none.
        problems: sentences that say why this cannot be evaluated; empty when it can.
        notes: sentences about what is odd but harmless.
    """

    files: Mapping[str, Path]
    labels: Mapping[str, int]
    label_bytes: bytes
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def digest(self) -> str:
        """Return the SHA-256 over image ids, byte sizes and the label file; asks the disk for each size.

        Raises:
            DatasetError: an image vanished since it was listed.
        """
        hasher = hashlib.sha256()
        for image_id, path in self.files.items():
            hasher.update(f"{image_id}\0{_size_bytes(path)}\n".encode())
        hasher.update(b"\0labels\0" + self.label_bytes)
        return hasher.hexdigest()

    def empty_files(self) -> list[str]:
        """Return the images of zero bytes; asks the disk for each size."""
        return [path.name for path in self.files.values() if _size_bytes(path) == 0]


@dataclass(frozen=True, kw_only=True)
class ImageNetDataset:
    """An opened dataset; see `tasks.protocols.Dataset` and `ClassLabels`."""

    ref: DatasetRef
    image_ids: tuple[str, ...]
    files: Mapping[str, Path]
    labels: Mapping[str, int]

    def image_path(self, image_id: str) -> Path:
        """Return the file of an image; raises DatasetError for an unknown id."""
        self._refuse_unknown(image_id)
        return self.files[image_id]

    def label(self, image_id: str) -> int:
        """Return the class id of an image, 0 to 999; raises DatasetError for an unknown id."""
        self._refuse_unknown(image_id)
        return self.labels[image_id]

    def first(self, count: int) -> "ImageNetDataset":
        """Return the view of the first `count` images."""
        kept = self.image_ids[:count]
        return replace(self, image_ids=kept, files={image_id: self.files[image_id] for image_id in kept})

    def _refuse_unknown(self, image_id: str) -> None:
        if image_id not in self.files:
            raise DatasetError(f"The dataset {self.ref.name!r} has no image {image_id!r}.")


def list_folder(root: Path) -> ImageNetListing:
    """List a dataset's folder without reading any image.

    Args:
        root: an existing folder.

    Raises:
        DatasetError: the folder or the label file cannot be read.
    """
    folder = root / "val" if (root / "val").is_dir() else root
    problems: list[str] = []
    notes: list[str] = []
    try:
        files = _index_images(folder, problems)
        labels, label_bytes = _read_labels(root, folder, problems)
    except OSError as error:
        raise DatasetError(f"The dataset folder {root} cannot be read: {error.strerror or error}.") from error
    if not files:
        problems.append(f"no images (*.JPEG) in {folder}")
    unlabelled = [image_id for image_id in files if image_id not in labels]
    if unlabelled and label_bytes is not None:
        problems.append(f"{len(unlabelled)} images without a label in {LABEL_FILE}: {_some(unlabelled)}")
    absent = [image_id for image_id in labels if image_id not in files]
    if absent:
        notes.append(f"{len(absent)} labels without an image: {_some(absent)}")
    return ImageNetListing(
        files=files, labels=labels, label_bytes=label_bytes or b"", problems=tuple(problems), notes=tuple(notes)
    )


def _index_images(folder: Path, problems: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    doubled: list[str] = []
    for path in _image_files(folder):
        if path.stem in found:
            doubled.append(f"{path.relative_to(folder)} and {found[path.stem].relative_to(folder)}")
        else:
            found[path.stem] = path
    if doubled:
        problems.append(f"{len(doubled)} image names used twice: {_some(doubled)}")
    return dict(sorted(found.items()))


def _image_files(folder: Path) -> Iterator[Path]:
    """Yield the images of a folder and of its sub-folders, one level deep, in sorted order."""
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from (path for path in sorted(Path(entry.path).iterdir()) if _is_image(path.name))
        elif _is_image(entry.name):
            yield Path(entry.path)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def _read_labels(root: Path, folder: Path, problems: list[str]) -> tuple[dict[str, int], bytes | None]:
    """Return image id -> class id, and the file as it is; None where there is no file."""
    path = root / LABEL_FILE if (root / LABEL_FILE).is_file() else folder / LABEL_FILE
    if not path.is_file():
        problems.append(f"no {LABEL_FILE} in {root}")
        return {}, None
    content = path.read_bytes()
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
    return labels, content


def _parse_label(line: str) -> tuple[str, int | None]:
    """Return image id and class id; None where the line is not one. A class of 1000 is let through, to be explained."""
    words = line.rsplit(maxsplit=1)
    if len(words) != 2 or re.fullmatch(r"[0-9]{1,4}", words[1]) is None:  # noqa: PLR2004 - name and class
        return line, None
    name, label = words[0].strip(), int(words[1])
    image_id = Path(name).stem if _is_image(name) else name
    return image_id, label if label <= CLASSES else None


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DatasetError(f"The image {path} is gone or unreadable: {error.strerror}.") from error


def _some(items: list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
