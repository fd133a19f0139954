"""WIDER FACE's validation set as it lies on a host's disk: images by event, and four .mat files with the truth.

Images are in `WIDER_val/images/EVENT/`, where the official WIDER_val.zip puts them, or in `images/EVENT/`. The truth is
in `eval_tools/ground_truth/`, where the official eval_tools.zip puts it, or in one of the other places that people have
for it (`TRUTH_PLACES`); all four files in the same one. Of several, the first counts.

`wider_face_val.mat` says which images there are and in which order; other images beside them do not count. Images are
called by event and stem, as in `0--Parade/0_Parade_marchingband_1_465`.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from npuq.errors import DatasetError
from tasks import widerface_truth
from tasks.dataset_formats import FoundSample, Survey
from tasks.dataset_images import RegisteredImages
from tasks.dataset_manifest import Manifest
from tasks.protocols import WIDER_DIFFICULTIES
from tasks.steps import DatasetRef

if TYPE_CHECKING:
    from tasks.protocols import WiderFaces

IMAGE_PLACES: Final = ("WIDER_val/images", "images", "val/images")
TRUTH_PLACES: Final = ("eval_tools/ground_truth", "ground_truth", "wider_face_split", "WIDER_val/ground_truth", ".")
IMAGE_SUFFIX: Final = ".jpg"
_SHOWN: Final = 3
_KEPT_LISTINGS: Final = 4


@dataclass(frozen=True, kw_only=True)
class WiderDataset(RegisteredImages):
    """An opened dataset; see `tasks.protocols.Dataset` and `WiderTruth`. `truth`: by image id."""

    truth: Mapping[str, "WiderFaces"]

    def faces(self, image_id: str) -> "WiderFaces":
        """Return the faces of an image, maybe none; raises DatasetError for an unknown id."""
        self.registered(image_id)
        return self.truth[image_id]


class WiderFormat:
    """The format; see `tasks.dataset_formats.DatasetFormat`. The truth stays in the annotation files."""

    def survey(self, root: Path) -> Survey:
        """Read the truth, and look for the images that it lists."""
        image_place, truth_place = _image_place(root), _truth_place(root)
        problems = [] if (root / image_place).is_dir() else [f"no folder {' or '.join(IMAGE_PLACES[:2])} in {root}"]
        missing = [name for name in widerface_truth.FILES if not (root / truth_place / name).is_file()]
        if missing:
            problems.append(
                f"no {', '.join(missing)} in {root / truth_place}; the official eval_tools.zip has all four files"
            )
        if problems:
            return Survey(samples=(), annotations={}, problems=tuple(problems))
        contents = {name: (root / truth_place / name).read_bytes() for name in widerface_truth.FILES}
        try:
            truth = widerface_truth.parse(contents)
        except DatasetError as error:
            return Survey(samples=(), annotations={}, problems=(error.info.message.rstrip("."),))
        there = {image_id for image_id, _ in _images(root / image_place)}
        return Survey(
            samples=tuple(
                FoundSample(image_id=image_id, path=_path(image_place, image_id))
                for image_id in truth
                if image_id in there
            ),
            annotations={(PurePosixPath(truth_place) / name).as_posix(): data for name, data in contents.items()},
            problems=_problems(truth, there, image_place),
            notes=_notes(sorted(there - truth.keys())),
        )

    def image_sizes(self, root: Path) -> dict[str, int]:
        """List the images that the truth names; their names are parsed once while the file stays as it is."""
        image_place = _image_place(root)
        listed = _listed(root / _truth_place(root) / widerface_truth.FACE_FILE)
        return {
            _path(image_place, image_id): entry.stat().st_size
            for image_id, entry in _images(root / image_place)
            if listed is None or image_id in listed
        }

    def open(self, ref: DatasetRef, manifest: Manifest, annotations: Mapping[str, bytes]) -> WiderDataset:
        """Read the truth, of the images in the manifest only; raises DatasetError naming a file that is none."""
        truth = widerface_truth.parse({PurePosixPath(path).name: content for path, content in annotations.items()})
        entries = {sample.image_id: sample for sample in manifest.samples}
        return WiderDataset(ref=ref, entries=entries, truth={image_id: truth[image_id] for image_id in entries})


def _image_place(root: Path) -> str:
    """Return where the images are; the official place where they are nowhere."""
    return next((place for place in IMAGE_PLACES if (root / place).is_dir()), IMAGE_PLACES[0])


def _truth_place(root: Path) -> str:
    """Return where most of the four files are, the first of equal places."""
    return max(TRUTH_PLACES, key=lambda place: sum((root / place / name).is_file() for name in widerface_truth.FILES))


def _path(image_place: str, image_id: str) -> str:
    return f"{image_place}/{image_id}{IMAGE_SUFFIX}"


def _images(folder: Path) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Yield image id and file of every image in every event."""
    try:
        with os.scandir(folder) as entries:
            events = sorted(entry.name for entry in entries if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for event in events:
        with os.scandir(folder / event) as entries:
            for entry in entries:
                if entry.name.endswith(IMAGE_SUFFIX) and entry.is_file():
                    yield f"{event}/{entry.name.removesuffix(IMAGE_SUFFIX)}", entry


def _listed(path: Path) -> frozenset[str] | None:
    """Return the ids of the listed images; None where the file is gone or damaged, which others will say."""
    try:
        status = path.stat()
        return _parse_ids(path, (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    except (FileNotFoundError, NotADirectoryError, DatasetError):
        return None


@lru_cache(maxsize=_KEPT_LISTINGS)
def _parse_ids(path: Path, state: tuple[int, ...]) -> frozenset[str]:
    del state  # in the key only: a file that was written again is parsed again
    return frozenset(widerface_truth.parse_image_ids(path.read_bytes()))


def _problems(truth: Mapping[str, "WiderFaces"], there: set[str], image_place: str) -> tuple[str, ...]:
    absent = [image_id for image_id in truth if image_id not in there]
    uncounted = [
        difficulty
        for difficulty in WIDER_DIFFICULTIES
        if not any(of_image.counted[difficulty].any() for of_image in truth.values())
    ]
    return (
        *([f"{len(absent)} of {len(truth)} images are not in {image_place}: {_some(absent)}"] if absent else []),
        *(f"no face counts as {difficulty}" for difficulty in uncounted),
    )


def _notes(unlisted: list[str]) -> tuple[str, ...]:
    if not unlisted:
        return ()
    return (f"{len(unlisted)} images that {widerface_truth.FACE_FILE} does not list: {_some(unlisted)}",)


def _some(items: list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
