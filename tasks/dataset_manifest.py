"""The manifest of a dataset: the files it is made of, by content, in one canonical text.

The SHA-256 of that text is the dataset's digest, so nothing of a dataset can change while its digest stays. This module
knows no format of datasets and touches no disk.

The text is canonical JSON (sorted keys, no blanks, ASCII) of `kind` ("npuq.dataset"), `version` (1), `format`,
`samples` (each image_id, label, path, sha256, size_bytes; in the dataset's own order) and `annotations` (each path,
sha256, size_bytes; in the order of the paths). Places, dates and permissions are no part of it.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Final, Self

from npuq.canonical_json import canonical_json

KIND: Final = "npuq.dataset"
VERSION: Final = 1
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """A file as it was registered.

    Attributes:
        path: relative to the dataset's folder, with `/`.
        size_bytes: its length.
        sha256: of its content, 64 hex digits.
    """

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleEntry(FileEntry):
    """An image as it was registered.

    Attributes:
        image_id: the dataset's own name of the image.
        label: what the format says of the image by itself, a JSON value; None where the truth lies in annotation files.
    """

    image_id: str
    label: Any = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All files of a dataset.

    Attributes:
        format: how the folder is laid out, `imagenet` for example.
        samples: in the dataset's order.
        annotations: files of labels and boxes, by path.
    """

    format: str
    samples: tuple[SampleEntry, ...]
    annotations: tuple[FileEntry, ...] = ()

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Return all files: images first, then annotations."""
        return (*self.samples, *self.annotations)

    @property
    def size_bytes(self) -> int:
        """Return the length of all files together."""
        return sum(file.size_bytes for file in self.files)

    @cached_property
    def text(self) -> bytes:
        """Return the canonical text."""
        document = {
            "kind": KIND,
            "version": VERSION,
            "format": self.format,
            "samples": [_file_json(sample) | _sample_json(sample) for sample in self.samples],
            "annotations": [_file_json(file) for file in sorted(self.annotations, key=lambda file: file.path)],
        }
        return canonical_json(document).encode("ascii")

    @cached_property
    def digest(self) -> str:
        """Return the dataset's digest."""
        return hashlib.sha256(self.text).hexdigest()

    @classmethod
    def parse(cls, text: bytes, *, digest: str) -> Self:
        """Read the manifest of a digest; raises ValueError for anything else."""
        if hashlib.sha256(text).hexdigest() != digest:
            raise ValueError("its bytes have another SHA-256")
        document = json.loads(text)
        try:
            if (document["kind"], document["version"]) != (KIND, VERSION):
                raise ValueError(f"a {document['kind']} of version {document['version']}")
            manifest = cls(
                format=str(document["format"]),
                samples=tuple(
                    SampleEntry(image_id=data["image_id"], label=data["label"], **_file_values(data))
                    for data in document["samples"]
                ),
                annotations=tuple(FileEntry(**_file_values(data)) for data in document["annotations"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a manifest: {error!r}") from error
        if len({sample.image_id for sample in manifest.samples}) != len(manifest.samples):
            raise ValueError("an image is listed twice")
        _refuse_clashes([file.path for file in manifest.files])
        return manifest


def _refuse_clashes(paths: list[str]) -> None:
    """Refuse paths that cannot all be files of one folder; raises ValueError."""
    files = set(paths)
    if len(files) != len(paths):
        raise ValueError("a file is listed twice")
    folders = {folder for folder in {path.rpartition("/")[0] for path in paths} if folder}
    for folder in folders:
        clash = files & {folder, *map(str, PurePosixPath(folder).parents)}
        if clash:
            raise ValueError(f"{min(clash)!r} is a file and a folder")


def _file_json(file: FileEntry) -> dict[str, Any]:
    return {"path": file.path, "size_bytes": file.size_bytes, "sha256": file.sha256}


def _sample_json(sample: SampleEntry) -> dict[str, Any]:
    return {"image_id": sample.image_id, "label": sample.label}


def _file_values(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a file.

    Raises:
        ValueError: a path that leads out of the dataset's folder, or a digest that is none: both become file names.
    """
    path = PurePosixPath(data["path"])
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{data['path']!r} leads out of the dataset")
    if str(path) != data["path"] or not path.name or b"\0" in os.fsencode(path):
        raise ValueError(f"{data['path']!r} names no file")
    if _SHA256.fullmatch(data["sha256"]) is None:
        raise ValueError(f"{data['sha256']!r} is no SHA-256")
    return {"path": str(data["path"]), "size_bytes": int(data["size_bytes"]), "sha256": data["sha256"]}
