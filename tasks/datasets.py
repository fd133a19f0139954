"""Registers, opens and verifies datasets, whatever their format: a dataset is what its manifest says, or it is refused.

`inspect` looks at a folder once, contents and all. Later uses compare names and sizes of the whole folder, and the
content of every file that they read (`tasks.dataset_files`); `verify` compares all of it.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from npuq.errors import ArtifactError, Blame, DatasetError, DatasetMissingError, InvalidRequestError
from tasks.dataset_files import (
    Change,
    Difference,
    HashProgress,
    changed_error,
    find_moved,
    hash_files,
    read_registered,
)
from tasks.dataset_formats import DatasetFormat, Survey
from tasks.dataset_manifest import FileEntry, Manifest, SampleEntry
from tasks.datasets_coco import CocoFormat
from tasks.datasets_imagenet import ImageNetFormat
from tasks.datasets_voc import VocFormat
from tasks.datasets_widerface import WiderFormat
from tasks.image_lists import ImageList
from tasks.protocols import Dataset
from tasks.steps import DatasetRef, ImageListRef

#: Format -> how it lies on a disk.
FORMATS: Final[Mapping[str, DatasetFormat]] = {
    "imagenet": ImageNetFormat(),
    "voc": VocFormat(),
    "coco": CocoFormat(),
    "widerface": WiderFormat(),
}
_SHOWN: Final = 3


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """What a folder holds.

    Attributes:
        manifest: every file by content.
        notes: sentences about what is odd but harmless, such as labels without an image.
    """

    manifest: Manifest
    notes: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """Return the number of images."""
        return len(self.manifest.samples)

    @property
    def digest(self) -> str:
        """Return the dataset's digest."""
        return self.manifest.digest


def inspect(root: Path, dataset_format: str, *, progress: HashProgress | None = None) -> DatasetFacts:
    """Look at a dataset's folder as a whole; reads every byte.

    Args:
        root: the folder.
        dataset_format: a key of `FORMATS`.
        progress: told how many bytes were hashed, of how many.

    Raises:
        DatasetMissingError: there is no such folder on this host.
        DatasetError: it cannot be used, and the message lists why; or it cannot be read.
        InvalidRequestError: npuq does not know the format.
    """
    layout = _format(dataset_format)
    _require_folder(root, root.name)
    with _reading(root):
        survey = layout.survey(root)
        sizes = layout.image_sizes(root)
    problems = [*survey.problems, *_empty_images(sizes)]
    if problems:
        raise DatasetError(f"{root} cannot be used as a dataset: {'; '.join(problems)}.")
    paths = [sample.path for sample in survey.samples]
    total_bytes = sum(sizes.get(path, 0) for path in paths)
    hashed = hash_files(root, paths, total_bytes=total_bytes, progress=progress)
    return DatasetFacts(manifest=_manifest(dataset_format, survey, hashed), notes=survey.notes)


def open_manifest(ref: DatasetRef) -> Manifest:
    """Return a registered dataset's manifest, after a look at the names and sizes of all its files on this host.

    Raises:
        DatasetMissingError: its folder is not on this host.
        DatasetChangedError: files are missing, of another size, or images were added; the message names the first.
        DatasetError: the manifest is damaged, or the host cannot read the folder.
        InvalidRequestError: this npuq does not know its format.
    """
    manifest = read_manifest(ref)
    check_listing(ref, manifest)
    return manifest


def check_listing(ref: DatasetRef, manifest: Manifest) -> None:
    """Compare names and sizes of all files on this host with a dataset's manifest; raises as `open_manifest`.

    Of a dataset that is kept in the store, this host has the files that were asked for, and each is what it should be.
    """
    if ref.source is not None:
        return
    differences = _moved(ref, manifest)
    if differences:
        raise changed_error(ref, differences)


def open_dataset(ref: DatasetRef, *, limit: int | None = None) -> Dataset:
    """Open a registered dataset, or the part of it that is used, with the truth of those images only.

    Args:
        ref: the dataset; its `images` say which part.
        limit: the first so many; None: all.

    Raises:
        InvalidRequestError: the limit is below 1, or as `chosen_samples`.
        NpuqError: as `open_manifest`, also for annotations of other content.
    """
    if limit is not None and limit < 1:
        raise InvalidRequestError(f"A limit of {limit} images leaves nothing to evaluate; give 1 or more.")
    manifest = open_manifest(ref)
    part = replace(manifest, samples=chosen_samples(ref, manifest)[:limit])
    annotations = {file.path: read_registered(ref, file) for file in manifest.annotations}
    return _format(ref.format).open(ref, part, annotations)


def chosen_samples(ref: DatasetRef, manifest: Manifest) -> tuple[SampleEntry, ...]:
    """Return the samples of a dataset that are used, in the dataset's own order.

    Raises:
        ArtifactError: the list of them cannot be read.
        InvalidRequestError: it is none, or lists other images than the dataset has; the message names them.
    """
    if ref.images is None:
        return manifest.samples
    listed = _read_image_list(ref.images)
    by_id = {sample.image_id: sample for sample in manifest.samples}
    listed.check_known(by_id, ref.name, next(iter(by_id), ""))
    return tuple(sample for image_id, sample in by_id.items() if image_id in listed.lines)


def _read_image_list(images: ImageListRef) -> ImageList:
    name = f"the list of images {images.digest[:12]}"
    try:
        listed = ImageList.read(images.path.read_bytes(), name)
    except OSError as error:
        raise ArtifactError(f"{name} cannot be read: {error}") from error
    if len(listed.lines) != images.count:
        raise InvalidRequestError(f"{name} has {len(listed.lines)} images, the run was planned with {images.count}")
    return listed


def read_manifest(ref: DatasetRef) -> Manifest:
    """Return a registered dataset's manifest without looking at its folder; raises DatasetError when it is damaged."""
    try:
        manifest = Manifest.parse(ref.manifest.read_bytes(), digest=ref.digest)
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"The manifest {ref.digest[:12]} of the dataset {ref.name!r} cannot be used: {error}. Register the dataset "
            f"again: npuq datasets add {ref.name} {ref.root} --format {ref.format}"
        ) from error
    if (manifest.format, len(manifest.samples)) != (ref.format, ref.samples):
        raise DatasetError(
            f"The dataset {ref.name!r} is registered as {ref.samples} images in {ref.format} format, but its manifest "
            f"lists {len(manifest.samples)} in {manifest.format} format. Register it again with: npuq datasets add"
        )
    return manifest


def verify(ref: DatasetRef, *, progress: HashProgress | None = None) -> list[Difference]:
    """Compare a folder with its manifest, byte by byte; returns what differs, by path.

    Raises:
        DatasetMissingError: its folder is not on this host.
        DatasetError: the manifest is damaged, or the host cannot read the folder.
        InvalidRequestError: this npuq does not know its format.
    """
    manifest = read_manifest(ref)
    differences = _moved(ref, manifest)
    known = {difference.path for difference in differences}
    same_size = {file.path: file for file in manifest.files if file.path not in known}
    total_bytes = sum(file.size_bytes for file in same_size.values())
    hashed = hash_files(ref.root, same_size, total_bytes=total_bytes, progress=progress)
    rewritten = [
        Difference(path=path, change=Change.CONTENT)
        for path, file in same_size.items()
        if hashed[path].sha256 != file.sha256
    ]
    return sorted([*differences, *rewritten])


def _manifest(dataset_format: str, survey: Survey, hashed: Mapping[str, FileEntry]) -> Manifest:
    samples = []
    for sample in survey.samples:
        file = hashed[sample.path]
        samples.append(
            SampleEntry(
                image_id=sample.image_id,
                label=sample.label,
                path=file.path,
                size_bytes=file.size_bytes,
                sha256=file.sha256,
            )
        )
    annotations = tuple(
        FileEntry(path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for path, content in sorted(survey.annotations.items())
    )
    return Manifest(format=dataset_format, samples=tuple(samples), annotations=annotations)


def _moved(ref: DatasetRef, manifest: Manifest) -> list[Difference]:
    layout = _format(ref.format)
    _require_folder(ref.root, ref.name, ref.host)
    with _reading(ref.root):
        return find_moved(manifest, ref.root, layout.image_sizes(ref.root))


def _empty_images(sizes: Mapping[str, int]) -> list[str]:
    empty = [path for path, size in sizes.items() if size == 0]
    more = " ..." if len(empty) > _SHOWN else ""
    return [f"{len(empty)} images of zero bytes: {', '.join(empty[:_SHOWN])}{more}"] if empty else []


def _format(name: str) -> DatasetFormat:
    if name not in FORMATS:
        raise InvalidRequestError(f"Unknown dataset format {name!r}. Known: {', '.join(FORMATS)}.")
    return FORMATS[name]


def _require_folder(root: Path, name: str, host: str | None = None) -> None:
    if not root.is_dir():
        where = "this host" if host is None else f"host {host}"
        raise DatasetMissingError(
            f"The dataset {name!r} is not on {where}: there is no folder {root}. Mount or copy it there; or say where "
            f"it lies there, with: npuq datasets add {name} FOLDER --host HOST, or keep it in the store for all hosts: "
            f"npuq datasets add {name} FOLDER --store"
        )


@contextmanager
def _reading(root: Path) -> Iterator[None]:
    """Say whose fault it is that a folder or a label file cannot be read."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"The dataset folder {root} cannot be read: {error}. Check the host's disk and permissions.",
            blame=Blame.HOST,
            retry=True,
        ) from error
