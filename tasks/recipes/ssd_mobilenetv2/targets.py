"""What each prior should say of a picture, for fitting: which class it shows, and how far it is from the object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tasks.protocols import Array, VocObjects
from tasks.recipes.ssd_mobilenetv2 import priors

_SHOWS: Final = 0.45  # overlap from which on a prior shows an object
_DOUBTFUL: Final = 0.35  # overlap from which on it neither shows it nor shows nothing
_SURELY: Final = 2.0  # stands for the overlap of an object's best prior, so that each object has one


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """What `P` priors should say of `N` pictures.

    Attributes:
        labels: int64 (N, P), 0: nothing.
        locations: float32 (N, P, 4), corrections as `SSDLite.decode` takes them; only of use where the label is not 0.
        doubtful: bool (N, P), priors not to learn from.
    """

    labels: Array
    locations: Array
    doubtful: Array

    def between(self, first: int, last: int) -> "Targets":
        """Return those of some priors, as one row per cell: (N * cells, 6) and (N * cells, 6, 4)."""
        slots = priors.PRIORS_PER_CELL
        return Targets(
            labels=self.labels[:, first:last].reshape(-1, slots),
            locations=self.locations[:, first:last].reshape(-1, slots, 4),
            doubtful=self.doubtful[:, first:last].reshape(-1, slots),
        )


def of_pictures(metas: Sequence[Mapping[str, Any]], truth: Sequence[VocObjects]) -> Targets:
    """Return what the priors should say.

    Args:
        metas: `width` and `height` of the originals in pixels.
        truth: the objects, in pixels of the originals; difficult ones are doubtful.
    """
    table = priors.priors()
    each = [_of_picture(table, meta, objects) for meta, objects in zip(metas, truth, strict=True)]
    labels, locations, doubtful = (np.stack(part) for part in zip(*each, strict=True))
    return Targets(labels=labels, locations=locations, doubtful=doubtful)


def _of_picture(table: Array, meta: Mapping[str, Any], objects: VocObjects) -> tuple[Array, Array, Array]:
    if len(objects.labels) == 0:
        nothing = np.zeros(len(table), dtype=np.int64)
        return nothing, np.zeros_like(table), nothing.astype(bool)
    boxes = objects.boxes / np.array([meta["width"], meta["height"]] * 2, dtype=np.float32)
    overlaps = _overlaps(table, boxes)
    overlaps[overlaps.argmax(axis=0), np.arange(len(boxes))] = _SURELY
    nearest, best = overlaps.argmax(axis=1), overlaps.max(axis=1)
    difficult = objects.difficult[nearest] & (best >= _DOUBTFUL)
    shows = (best >= _SHOWS) & ~difficult
    labels = np.where(shows, objects.labels[nearest], 0)
    return labels, _locations(table, boxes[nearest]), difficult | ((best >= _DOUBTFUL) & ~shows)


def _overlaps(table: Array, boxes: Array) -> Array:
    """Return intersection over union of priors (P, 4; centres and sides) and boxes (B, 4; corners): (P, B)."""
    halves = table[:, 2:] / 2
    near = np.maximum((table[:, :2] - halves)[:, None], boxes[None, :, :2])
    far = np.minimum((table[:, :2] + halves)[:, None], boxes[None, :, 2:])
    shared = np.maximum(far - near, 0).prod(axis=2)
    areas = table[:, 2:].prod(axis=1)[:, None] + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[None]
    return np.asarray(shared / (areas - shared))


def _locations(table: Array, boxes: Array) -> Array:
    """Return the corrections that turn each prior into its box, float32 (P, 4)."""
    centres = ((boxes[:, :2] + boxes[:, 2:]) / 2 - table[:, :2]) / table[:, 2:] / priors.CENTRE_VARIANCE
    sides = np.log((boxes[:, 2:] - boxes[:, :2]) / table[:, 2:]) / priors.SIZE_VARIANCE
    return np.concatenate([centres, sides], axis=1).astype(np.float32)
