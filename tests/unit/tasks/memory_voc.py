"""A VOC dataset without files, and random ones with everything that VOC's rules have a word on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from tasks.dataset_manifest import FileEntry
from tasks.protocols import Array, Detections, VocObjects
from tasks.steps import DatasetRef
from tasks.voc_annotations import CLASS_NAMES


@dataclass(frozen=True, kw_only=True)
class MemoryVoc:
    """An opened dataset; see `tasks.protocols.Dataset` and `VocTruth`."""

    truth: Mapping[str, VocObjects]
    class_names: tuple[str, ...] = CLASS_NAMES

    @cached_property
    def ref(self) -> DatasetRef:
        """Return a made-up registration."""
        return DatasetRef(
            name="memory",
            format="voc",
            root=Path("/"),
            digest="0" * 64,
            samples=len(self.truth),
            manifest=Path("/manifest.json"),
        )

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Return the images in order."""
        return tuple(self.truth)

    def image_path(self, image_id: str) -> Path:
        """Return a path at which nothing lies."""
        return Path("/") / image_id

    def registered(self, image_id: str) -> FileEntry:
        """Return a made-up entry."""
        return FileEntry(path=image_id, size_bytes=0, sha256="0" * 64)

    def first(self, count: int) -> "MemoryVoc":
        """Return the first images with their objects."""
        return replace(self, truth={image_id: self.truth[image_id] for image_id in self.image_ids[:count]})

    def objects(self, image_id: str) -> VocObjects:
        """Return the objects of an image."""
        return self.truth[image_id]


def objects(rows: list[tuple[tuple[float, ...], int, bool]]) -> VocObjects:
    """Return objects from rows of box, label, difficult."""
    return VocObjects(
        boxes=np.array([box for box, _, _ in rows], dtype=np.float32).reshape(-1, 4),
        labels=np.array([label for _, label, _ in rows], dtype=np.int64),
        difficult=np.array([difficult for _, _, difficult in rows], dtype=bool),
    )


def detections(rows: list[tuple[tuple[float, ...], int, float]]) -> Detections:
    """Return detections from rows of box, label, score, best first as a recipe would."""
    ordered = sorted(rows, key=lambda row: -row[2])
    return Detections(
        boxes=np.array([box for box, _, _ in ordered], dtype=np.float32).reshape(-1, 4),
        scores=np.array([score for _, _, score in ordered], dtype=np.float32),
        labels=np.array([label for _, label, _ in ordered], dtype=np.int64),
    )


def random_voc(seed: int, *, images: int = 15, difficult: float = 0.3, classes: int = 5) -> MemoryVoc:
    """Return images with 0 to 7 objects of the first classes; every fifth image has none."""
    generator = np.random.default_rng(seed)
    truth = {}
    for number in range(images):
        count = 0 if number % 5 == 1 else int(generator.integers(1, 8))
        truth[f"{number:06d}"] = objects(
            [
                (_corners(generator), int(generator.integers(1, classes + 1)), bool(generator.random() < difficult))
                for _ in range(count)
            ]
        )
    return MemoryVoc(truth=truth)


def random_detections(dataset: MemoryVoc, seed: int) -> dict[str, Detections]:
    """Return shaken copies of the objects, and inventions of other classes; every fourth image has none."""
    generator = np.random.default_rng(seed)
    predictions = {}
    for place, (image_id, true) in enumerate(dataset.truth.items()):
        rows = [
            (_shaken(box, generator), int(label), float(generator.random()))
            for box, label in zip(true.boxes, true.labels, strict=True)
            for _ in range(int(generator.integers(0, 4)))
        ]
        rows += [(_corners(generator), int(generator.integers(1, 8)), float(generator.random())) for _ in range(4)]
        predictions[image_id] = detections(rows if place % 4 else [])
    return predictions


def _corners(generator: np.random.Generator) -> tuple[float, ...]:
    x, y, wide, high = generator.integers([0, 0, 10, 10], [300, 200, 200, 200]).tolist()
    return (x, y, x + wide, y + high)


def _shaken(box: Array, generator: np.random.Generator) -> tuple[float, ...]:
    sides = np.tile(box[2:] - box[:2], 2)
    moved = (box + generator.normal(0, 0.12, 4) * sides).tolist()
    return (*moved[:2], max(moved[0] + 1, moved[2]), max(moved[1] + 1, moved[3]))
