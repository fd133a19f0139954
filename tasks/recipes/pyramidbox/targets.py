"""What each prior should say of a picture, for fitting a demo's weights: whether it shows a face, and its edges."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tasks.protocols import Array
from tasks.recipes.pyramidbox import priors

_SHOWS: Final = 0.35  # overlap from which on a prior shows a face
_DOUBTFUL: Final = 0.2  # overlap from which on it neither shows one nor shows nothing
_SURELY: Final = 2.0  # stands for the overlap of a face's best prior, so that each face has one


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """What `P` priors should say of `N` pictures.

    Attributes:
        shows: bool (N, P).
        doubtful: bool (N, P), priors not to learn from.
        locations: float32 (N, P, 4), corrections as `priors.decode` takes them; only of use where `shows`.
    """

    shows: Array
    doubtful: Array
    locations: Array

    def between(self, first: int, last: int) -> "Targets":
        """Return those of some priors only."""
        own = slice(first, last)
        return Targets(shows=self.shows[:, own], doubtful=self.doubtful[:, own], locations=self.locations[:, own])


def of_pictures(faces: Sequence[Array], side: int) -> Targets:
    """Return what the priors should say.

    Args:
        faces: per picture, float (K, 4), x1 y1 x2 y2 in pixels of the network's input.
        side: of the square input, in pixels.
    """
    table = priors.priors(side, side)
    each = [_of_picture(table, boxes / side) for boxes in faces]
    shows, doubtful, locations = (np.stack(part) for part in zip(*each, strict=True))
    return Targets(shows=shows, doubtful=doubtful, locations=locations)


def _of_picture(table: Array, boxes: Array) -> tuple[Array, Array, Array]:
    if len(boxes) == 0:
        nothing = np.zeros(len(table), dtype=np.bool_)
        return nothing, nothing, np.zeros_like(table)
    overlaps = _overlaps(table, boxes)
    overlaps[overlaps.argmax(axis=0), np.arange(len(boxes))] = _SURELY
    nearest, best = overlaps.argmax(axis=1), overlaps.max(axis=1)
    shows = best >= _SHOWS
    return shows, (best >= _DOUBTFUL) & ~shows, _locations(table, boxes[nearest])


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
