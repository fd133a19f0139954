"""Whether the chips see what torch sees: Top-1 against Top-1, and image by image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cli.session import Session
from db import job_queries
from npuq.states import JobKind
from report.tables import GuideRow

if TYPE_CHECKING:
    from tasks.demo_data import DemoFiles

#: Of the accuracy, and of the images seen as another class: fp16 weights may turn a close call or two, a mistake in any
#: step turns many more.
TOLERATED_POINTS: Final = 1.0
TOLERATED_IMAGES: Final = 1  #: where so few are looked at that one is more than that


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The chips' word against torch's.

    Attributes:
        chip_top1: percent, of each configuration.
        torch_top1: percent, of the same network run in torch on the same images.
        samples: number of images.
        same: images of the same class in both, of the configuration with the fewest.
    """

    chip_top1: Sequence[float]
    torch_top1: float
    samples: int
    same: int

    @property
    def holds(self) -> bool:
        """Tell whether they agree, on the whole and image by image."""
        other = 100 * (self.samples - self.same) / self.samples
        tolerated = max(TOLERATED_POINTS, 100 * TOLERATED_IMAGES / self.samples)
        return bool(self.chip_top1) and max(self._largest_difference, other) <= tolerated

    @property
    def _largest_difference(self) -> float:
        return max(abs(top1 - self.torch_top1) for top1 in self.chip_top1)

    def sentence(self) -> str:
        """Return it in words: both numbers, whether they agree, and on how many images."""
        if not self.chip_top1:
            return "No accuracy was measured, so there is nothing to hold against torch."
        ends = dict.fromkeys((min(self.chip_top1), max(self.chip_top1)))
        return (
            f"Top-1 on the chips: {' to '.join(f'{top1:.2f} %' for top1 in ends)}. The same network in torch on the "
            f"same {self.samples} images: {self.torch_top1:.2f} %. "
            f"{'They agree' if self.holds else 'THEY DISAGREE'}: the same class on {self.same} of {self.samples} images"
            f"{' at every batch size' if len(self.chip_top1) > 1 and self.same == self.samples else ''}."
        )


def compare(session: Session, run_id: str, rows: Sequence[GuideRow], files: "DemoFiles") -> Agreement:
    """Return how far a run's predictions agree with torch's; raises ArtifactError when they cannot be read."""
    seen = chip_classes(session, run_id)
    counts = [
        sum(classes.get(image_id) == wanted for image_id, wanted in files.torch_classes.items())
        for classes in seen.values()
    ]
    return Agreement(
        chip_top1=[row.accuracy["top1"] for row in rows if "top1" in row.accuracy],
        torch_top1=files.torch_top1,
        samples=files.samples,
        same=min(counts, default=0),
    )


def chip_classes(session: Session, run_id: str) -> Mapping[int, Mapping[str, int]]:
    """Return batch size -> image id -> class that the chips ranked first; raises ArtifactError."""
    import numpy as np

    from tasks.predictions import read_predictions
    from tasks.protocols import ClassScores

    with session.read() as connection:
        jobs = job_queries.find(connection, run_id=run_id, kind=JobKind.INFER)
    seen: dict[int, dict[str, int]] = {}
    for job in jobs:
        for digest in job.outputs.get("predictions", ()):
            shard = read_predictions(session.client.store.fetch(digest))
            seen.setdefault(job.params["batch_size"], {}).update(
                (image_id, int(np.argmax(prediction.scores)))
                for image_id, prediction in shard.predictions.items()
                if isinstance(prediction, ClassScores)
            )
    return seen
