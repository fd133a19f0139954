"""Opens, inspects and verifies datasets on a host, whatever their format.

A dataset is registered once with a digest (`inspect`), and every later use is held against it: `open_dataset` checks
what is cheap, `verify` checks all of it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from npuq.errors import DatasetError, DatasetMissingError, InvalidRequestError
from tasks import datasets_imagenet
from tasks.protocols import Dataset
from tasks.steps import DatasetRef

FORMATS: Final = ("imagenet",)


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """What a folder holds.

    Attributes:
        format: as asked.
        samples: number of images.
        digest: SHA-256 over the sorted listing (image ids, byte sizes) and the labels.
        problems: sentences that say why it cannot be used; empty when it can.
        notes: sentences about what is odd but harmless, such as labels without an image.
    """

    format: str
    samples: int
    digest: str
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def inspect(root: Path, dataset_format: str) -> DatasetFacts:
    """Look at a dataset's folder as a whole; reads names, sizes and labels, but no image.

    Raises:
        DatasetMissingError: there is no such folder on this host.
        DatasetError: the folder cannot be read.
        InvalidRequestError: npuq does not know the format.
    """
    listing = _list(root, dataset_format, name=root.name)
    empty = listing.empty_files()
    zero_bytes = (f"{len(empty)} images of zero bytes: {', '.join(empty[:3])}",) if empty else ()
    return DatasetFacts(
        format=dataset_format,
        samples=len(listing.files),
        digest=listing.digest(),
        problems=listing.problems + zero_bytes,
        notes=listing.notes,
    )


def open_dataset(ref: DatasetRef) -> Dataset:
    """Open a registered dataset: lists the folder, reads the labels, compares the number of images.

    Raises:
        DatasetMissingError: its folder is not on this host.
        DatasetError: it is not what was registered, or cannot be used; the message says what is missing.
        InvalidRequestError: npuq does not know its format.
    """
    listing = _list(ref.root, ref.format, name=ref.name)
    if listing.problems:
        raise DatasetError(f"The dataset {ref.name!r} in {ref.root} cannot be used: {'; '.join(listing.problems)}.")
    if len(listing.files) != ref.samples:
        raise _changed(ref, f"it has {len(listing.files)} images, registered were {ref.samples}")
    return datasets_imagenet.ImageNetDataset(
        ref=ref, image_ids=tuple(listing.files), files=listing.files, labels=listing.labels
    )


def verify(ref: DatasetRef) -> DatasetFacts:
    """Compare the whole listing with what was registered.

    Returns:
        What is there, when it is the same.

    Raises:
        DatasetMissingError: its folder is not on this host.
        DatasetError: it changed since, or cannot be used.
    """
    facts = inspect(ref.root, ref.format)
    if facts.problems:
        raise DatasetError(f"The dataset {ref.name!r} in {ref.root} cannot be used: {'; '.join(facts.problems)}.")
    if facts.digest != ref.digest:
        raise _changed(ref, f"its listing has the digest {facts.digest[:12]}, registered was {ref.digest[:12]}")
    return facts


def limited(dataset: Dataset, limit: int | None) -> Dataset:
    """Return the view of the first `limit` images; None: all of them.

    Raises:
        InvalidRequestError: the limit is below 1.
    """
    if limit is None:
        return dataset
    if limit < 1:
        raise InvalidRequestError(f"A limit of {limit} images leaves nothing to evaluate; give 1 or more.")
    return dataset.first(limit)


def _list(root: Path, dataset_format: str, *, name: str) -> datasets_imagenet.ImageNetListing:
    if dataset_format not in FORMATS:
        raise InvalidRequestError(f"Unknown dataset format {dataset_format!r}. Known: {', '.join(FORMATS)}.")
    if not root.is_dir():
        raise DatasetMissingError(
            f"The dataset {name!r} is not on this host: there is no folder {root}. Mount or copy it there, or register "
            "the folder where it lies with `npuq datasets add`."
        )
    return datasets_imagenet.list_folder(root)


def _changed(ref: DatasetRef, how: str) -> DatasetError:
    return DatasetError(
        f"The dataset {ref.name!r} in {ref.root} is not the one that was registered: {how}. Restore it, or register it "
        "anew (`npuq datasets add`): results of different images must not be compared."
    )
