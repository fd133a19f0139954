"""A COCO dataset without files, and random ones with everything that COCO's rules have a word on."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tasks.dataset_manifest import FileEntry
from tasks.protocols import Detections
from tasks.steps import DatasetRef


@dataclass(frozen=True, kw_only=True)
class MemoryCoco:
    """An opened dataset; see `tasks.protocols.Dataset` and `CocoTruth`."""

    instances: dict[str, Any]

    @cached_property
    def ref(self) -> DatasetRef:
        """Return a made-up registration."""
        return DatasetRef(
            name="memory",
            format="coco",
            root=Path("/"),
            digest="0" * 64,
            samples=len(self.image_ids),
            manifest=Path("/manifest.json"),
        )

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Return the stems of the file names."""
        return tuple(Path(image["file_name"]).stem for image in self.instances["images"])

    def image_path(self, image_id: str) -> Path:
        """Return a path at which nothing lies."""
        return Path("/") / image_id

    def registered(self, image_id: str) -> FileEntry:
        """Return a made-up entry."""
        return FileEntry(path=image_id, size_bytes=0, sha256="0" * 64)

    def first(self, count: int) -> "MemoryCoco":
        """Return the first images with their objects."""
        images = self.instances["images"][:count]
        kept = {image["id"] for image in images}
        annotations = [entry for entry in self.instances["annotations"] if entry["image_id"] in kept]
        return replace(self, instances={**self.instances, "images": images, "annotations": annotations})

    def coco_image_id(self, image_id: str) -> int:
        """Return the number in the name."""
        return int(image_id)


def detections(rows: list[tuple[float, float, float, float, float, int]]) -> Detections:
    """Return detections from rows of x y width height score category."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return Detections(
        boxes=boxes.astype(np.float32), scores=table[:, 4].astype(np.float32), labels=table[:, 5].astype(np.int64)
    )


def random_coco(seed: int, *, images: int = 12, categories: tuple[int, ...] = (1, 3, 13, 90)) -> MemoryCoco:
    """Return images with 0 to 8 objects: crowds, areas unlike the box, a category without objects, an id of 0."""
    generator = np.random.default_rng(seed)
    numbers = generator.choice(10_000, images, replace=False).tolist()
    annotations: list[dict[str, Any]] = []
    for place, number in enumerate(numbers):
        for _ in range(0 if place % 5 == 1 else int(generator.integers(1, 9))):
            x, y, wide, high = np.round(generator.uniform([0, 0, 4, 4], [300, 300, 250, 250]), 2).tolist()
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": int(generator.choice(categories[:-1])),
                    "bbox": [x, y, wide, high],
                    "area": round(wide * high * float(generator.uniform(0.3, 1)), 2),
                    "iscrowd": int(generator.random() < 0.15),
                }
            )
    return MemoryCoco(
        instances={
            "images": [{"id": number, "file_name": f"{number:012d}.jpg"} for number in numbers],
            "annotations": annotations,
            "categories": [{"id": category_id, "name": f"thing {category_id}"} for category_id in categories],
        }
    )


def random_detections(dataset: MemoryCoco, seed: int) -> dict[str, Detections]:
    """Return shaken copies of the objects, and inventions; some images have none, categories 2 and 50 do not exist."""
    generator = np.random.default_rng(seed)
    predictions = {}
    for place, image_id in enumerate(dataset.image_ids):
        rows = []
        for entry in dataset.instances["annotations"]:
            if entry["image_id"] == int(image_id) and place % 4:
                for _ in range(int(generator.integers(1, 4))):
                    box = np.array(entry["bbox"]) + generator.normal(0, 0.06, 4) * entry["bbox"][2]
                    score = round(float(generator.random()), 2)  # some scores are equal
                    rows.append((*np.maximum(box, 1).tolist(), score, entry["category_id"]))
        if place % 3:
            rows += [(*generator.uniform(1, 200, 4).tolist(), generator.random() / 2, label) for label in (1, 2, 50)]
        predictions[image_id] = detections(sorted(rows, key=lambda row: -row[4]))
    return predictions
