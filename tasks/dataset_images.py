"""What all opened datasets have in common: their images, as they were registered."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from npuq.errors import DatasetError
from tasks.dataset_manifest import SampleEntry
from tasks.steps import DatasetRef


@dataclass(frozen=True, kw_only=True)
class RegisteredImages:
    """An opened dataset without its truth; see `tasks.protocols.Dataset`.

    Attributes:
        ref: what the fleet knows of it.
        entries: image id -> its file as it was registered, in the dataset's order.
    """

    ref: DatasetRef
    entries: Mapping[str, SampleEntry]

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Return the dataset's own names of its images, in its fixed order."""
        return tuple(self.entries)

    def image_path(self, image_id: str) -> Path:
        """Return the file of an image; raises DatasetError for an unknown id."""
        return self.ref.root / self.registered(image_id).path

    def registered(self, image_id: str) -> SampleEntry:
        """Return that file as it was registered; raises DatasetError for an unknown id."""
        if image_id not in self.entries:
            raise DatasetError(f"The dataset {self.ref.name!r} has no image {image_id!r}.")
        return self.entries[image_id]
