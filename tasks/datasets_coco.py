"""COCO's validation set of 2017 as it lies on a host's disk: `annotations/instances_val2017.json` and `val2017/`.

The annotation file says which images there are; whatever else lies beside them is not part of the dataset. Images are
called by the stems of their file names, and come in the order of their numbers, as the published loaders take them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

from tasks import coco_instances
from tasks.coco_instances import some
from tasks.dataset_formats import FoundSample, Survey
from tasks.dataset_images import RegisteredImages
from tasks.dataset_manifest import Manifest
from tasks.steps import DatasetRef

IMAGE_FOLDER: Final = "val2017"
ANNOTATION_FILE: Final = "annotations/instances_val2017.json"
_KEPT_LISTINGS: Final = 4


@dataclass(frozen=True, kw_only=True)
class CocoDataset(RegisteredImages):
    """An opened dataset; see `tasks.protocols.Dataset` and `CocoTruth`. An image's label is its number in annotations.

    Attributes:
        truth: of these images, and maybe of others.
    """

    truth: Mapping[str, Any]

    @cached_property
    def instances(self) -> Mapping[str, Any]:
        """Return `images`, `annotations` and `categories`, of these images only; see `tasks.protocols.CocoTruth`."""
        return coco_instances.restrict(self.truth, {self.coco_image_id(image_id) for image_id in self.image_ids})

    def coco_image_id(self, image_id: str) -> int:
        """Return the number by which annotations name an image; raises DatasetError for an unknown id."""
        return int(self.registered(image_id).label)


class CocoFormat:
    """The format; see `tasks.dataset_formats.DatasetFormat`."""

    def survey(self, root: Path) -> Survey:
        """Read the annotations, and look for the images that they list."""
        problems = [] if (root / IMAGE_FOLDER).is_dir() else [f"no folder {IMAGE_FOLDER} in {root}"]
        try:
            content = (root / ANNOTATION_FILE).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return Survey(samples=(), annotations={}, problems=(f"no {ANNOTATION_FILE} in {root}", *problems))
        try:
            document = coco_instances.parse(content)
            problems += [f"{ANNOTATION_FILE}: {problem}" for problem in coco_instances.problems(document)]
        except ValueError as error:
            problems.append(f"{ANNOTATION_FILE}: {error}")
        if problems:
            return Survey(samples=(), annotations={}, problems=tuple(problems))
        numbers = {image["file_name"]: image["id"] for image in document["images"]}
        there = {entry.name for entry in _files(root)}
        absent = [name for name in numbers if name not in there]
        if absent:
            problems.append(f"{len(absent)} of {len(numbers)} images are not in {IMAGE_FOLDER}: {some(absent)}")
        return Survey(
            samples=tuple(
                FoundSample(image_id=coco_instances.stem(name), path=f"{IMAGE_FOLDER}/{name}", label=number)
                for name, number in sorted(numbers.items(), key=lambda item: item[1])
            ),
            annotations={ANNOTATION_FILE: content},
            problems=tuple(problems),
            notes=_notes(document, sorted(there - numbers.keys())),
        )

    def image_sizes(self, root: Path) -> dict[str, int]:
        """List the images that the annotations name, which are parsed once while their file stays as it is."""
        listed = _listed_names(root)
        return {
            f"{IMAGE_FOLDER}/{entry.name}": entry.stat().st_size
            for entry in _files(root)
            if listed is None or entry.name in listed
        }

    def open(self, ref: DatasetRef, manifest: Manifest, annotations: Mapping[str, bytes]) -> CocoDataset:
        """Take the truth from the annotations, and the images from the manifest."""
        entries = {sample.image_id: sample for sample in manifest.samples}
        truth = coco_instances.truth(coco_instances.parse(annotations[ANNOTATION_FILE]))
        return CocoDataset(ref=ref, entries=entries, truth=truth)


def _files(root: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(root / IMAGE_FOLDER) as entries:
            return sorted((entry for entry in entries if entry.is_file()), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _listed_names(root: Path) -> frozenset[str] | None:
    """Return the file names in the annotations; None where these are gone or damaged, which others will say."""
    path = root / ANNOTATION_FILE
    try:
        status = path.stat()
        return _parse_names(path, (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


@lru_cache(maxsize=_KEPT_LISTINGS)
def _parse_names(path: Path, state: tuple[int, ...]) -> frozenset[str]:
    del state  # in the key only: a file that was written again is parsed again
    return frozenset(str(image.get("file_name")) for image in coco_instances.parse(path.read_bytes())["images"])


def _notes(document: Mapping[str, Any], unlisted: list[str]) -> tuple[str, ...]:
    with_objects = {entry["image_id"] for entry in document["annotations"]}
    bare = [image["file_name"] for image in document["images"] if image["id"] not in with_objects]
    return (
        *([f"{len(bare)} images without objects: {some(bare)}"] if bare else []),
        *([f"{len(unlisted)} files that the annotations do not list: {some(unlisted)}"] if unlisted else []),
    )
