"""A WIDER FACE dataset without files, and random ones with everything that its rules have a word on."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tasks.dataset_manifest import FileEntry
from tasks.protocols import WIDER_DIFFICULTIES, Array, Detections, WiderFaces
from tasks.steps import DatasetRef


@dataclass(frozen=True, kw_only=True)
class MemoryWider:
    """An opened dataset; see `tasks.protocols.Dataset` and `WiderTruth`."""

    truth: Mapping[str, WiderFaces]

    @cached_property
    def ref(self) -> DatasetRef:
        """Return a made-up registration."""
        return DatasetRef(
            name="memory",
            format="widerface",
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

    def faces(self, image_id: str) -> WiderFaces:
        """Return the faces of an image."""
        return self.truth[image_id]


def faces(rows: list[tuple[tuple[float, ...], str]]) -> WiderFaces:
    """Return faces from rows of box (x y width height) and the initials of its difficulties, `emh` for an easy one."""
    return WiderFaces(
        boxes=np.array([box for box, _ in rows], dtype=np.float64).reshape(-1, 4),
        counted={
            difficulty: np.array([difficulty[0] in initials for _, initials in rows], dtype=bool)
            for difficulty in WIDER_DIFFICULTIES
        },
    )


def detections(rows: list[tuple[tuple[float, ...], float]]) -> Detections:
    """Return detections from rows of box (x y width height, the last pixel counted) and score."""
    boxes = np.array([(x, y, x + width - 1, y + height - 1) for (x, y, width, height), _ in rows], dtype=np.float32)
    return Detections(
        boxes=boxes.reshape(-1, 4),
        scores=np.array([score for _, score in rows], dtype=np.float32),
        labels=np.ones(len(rows), dtype=np.int64),
    )


def random_wider(seed: int, *, images: int = 12, crowd: int = 300) -> MemoryWider:
    """Return images with 0 to 9 faces and one with a crowd; some faces have no size, and some count for nothing."""
    generator = np.random.default_rng(seed)
    truth = {}
    for number in range(images):
        count = crowd if number == 2 else int(generator.integers(0, 10))
        rows = []
        for _ in range(count):
            box = _box(generator) if generator.random() > 0.05 else (*_box(generator)[:2], 0.0, 0.0)
            rows.append((box, ("", "h", "mh", "emh")[int(generator.integers(4))] if number != 5 else ""))
        truth[f"{number // 5}--Event/{number}_Event_{number}"] = faces(rows)
    return MemoryWider(truth=truth)


def random_detections(dataset: MemoryWider, seed: int, *, equal_scores: bool = False) -> dict[str, Detections]:
    """Return shaken copies of the faces, and inventions, best first; every fourth image has none."""
    generator = np.random.default_rng(seed)
    predictions = {}
    for place, (image_id, true) in enumerate(dataset.truth.items()):
        rows = [
            (_shaken(box, generator), float(generator.random()))
            for box in true.boxes
            for _ in range(int(generator.integers(0, 4)))
        ]
        rows += [(_box(generator), float(generator.random())) for _ in range(6)]
        if equal_scores:
            rows = [(box, round(score, 1)) for box, score in rows]
        rows.sort(key=lambda row: -row[1])
        predictions[image_id] = detections(rows if place % 4 else [])
    return predictions


def _box(generator: np.random.Generator) -> tuple[float, ...]:
    x, y, side = generator.uniform([-10, -10, 4], [400, 300, 60]).tolist()
    return (round(x), round(y), round(side), round(side * 1.25))


def _shaken(box: Array, generator: np.random.Generator) -> tuple[float, ...]:
    x, y, width, height = box.tolist()
    moved = generator.normal(0, 0.12, 4) * [width, height, width, height]
    x, y, width, height = (box + moved).tolist()
    return (x, y, max(width, 1.0), max(height, 1.0))
