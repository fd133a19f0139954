"""The seam of dataset formats: what a new format has to tell, and nothing about contents, digests or the store.

A format finds files and understands labels. That they are the registered ones is checked by `tasks.datasets`, for all
formats alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tasks.dataset_manifest import Manifest
    from tasks.protocols import Dataset
    from tasks.steps import DatasetRef


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundSample:
    """An image in a folder: its id, its path relative to the folder (with `/`), its own label as a JSON value."""

    image_id: str
    path: str
    label: Any = None


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What lies in a folder, good or bad.

    Attributes:
        samples: in the order that the dataset shall have for ever.
        annotations: relative path -> content, exactly as it was read to find problems and labels.
        problems: sentences that say why this cannot be evaluated; empty when it can.
        notes: sentences about what is odd but harmless.
    """

    samples: tuple[FoundSample, ...]
    annotations: Mapping[str, bytes]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class DatasetFormat(Protocol):
    """How one kind of dataset lies on a disk. Every method may raise OSError: the caller says whose fault that is."""

    def survey(self, root: Path) -> Survey:
        """Look at a folder that is to be registered; reads labels, but no image."""

    def image_sizes(self, root: Path) -> Mapping[str, int]:
        """Return relative path -> size in bytes of every image that `survey` would find now.

        It runs before every shard: names and sizes only, no annotation is parsed if that can be avoided.
        """

    def open(self, ref: "DatasetRef", manifest: "Manifest", annotations: Mapping[str, bytes]) -> "Dataset":
        """Return the dataset with its truth, from the manifest and the verified contents of its annotation files.

        The manifest may list a part of the images only, in the dataset's order. Then the dataset is that part: the
        truth of other images is left out, so that nothing is scored against it.
        """
