"""Scoring a set of faces as large as WIDER FACE's validation set, on one core."""

import time
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from benchmarks.figures import Figure
from tasks import datasets, demo_widerface, widerface_scores
from tasks.datasets_widerface import IMAGE_PLACES, IMAGE_SUFFIX, TRUTH_PLACES
from tasks.demo_widerface import EVENTS, Face, Picture
from tasks.protocols import Array, Detections, WiderTruth
from tasks.steps import DatasetRef

IMAGES: Final = 3226
MEAN_FACES: Final = 12.3
MOST_FACES: Final = 255
FOUND: Final = 750  #: in each image, as many as PyramidBox keeps
SIDE: Final = 1024  #: pixels


def measure(folder: Path) -> list[Figure]:
    """Open a made-up dataset, then score as many detections as there can be."""
    generator = np.random.default_rng(0)
    ref = _register(folder, generator)
    opening = time.process_time()
    dataset = datasets.open_dataset(ref)
    opened = time.process_time()
    assert isinstance(dataset, WiderTruth)
    truth = {image_id: dataset.faces(image_id).boxes for image_id in dataset.image_ids}
    predictions = {image_id: _shaken(boxes, generator) for image_id, boxes in truth.items()}
    scoring = time.process_time()
    scores = widerface_scores.score(predictions, dataset)
    seconds = time.process_time() - scoring
    assert scores.easy is not None
    assert 0 < scores.easy < 1
    faces = sum(len(boxes) for boxes in truth.values())
    return [
        Figure(name="WIDER FACE opened", value=opened - opening, unit="s", how=f"{IMAGES} images, {faces} faces"),
        Figure(
            name="WIDER FACE scored, one core",
            value=seconds,
            unit="s",
            how=f"{FOUND} detections in each image; easy, medium and hard",
        ),
    ]


def _register(root: Path, generator: np.random.Generator) -> DatasetRef:
    """Write the truth, and empty images with one byte each: nobody looks at them."""
    nothing = Image.new("RGB", (1, 1))
    counts = np.clip(generator.lognormal(np.log(MEAN_FACES) - 0.9, 1.35, IMAGES).round(), 1, MOST_FACES)
    drawn: dict[str, dict[str, Picture]] = {event: {} for event in EVENTS}
    for number, count in enumerate(counts.astype(int).tolist()):
        heights = np.exp(generator.uniform(np.log(8), np.log(200), count))
        rows = np.column_stack([generator.uniform(0, SIDE - 200, (count, 2)), 0.8 * heights, heights]).astype(int)
        faces = tuple(Face(box=(x, y, width, height)) for x, y, width, height in rows.tolist())
        drawn[EVENTS[number % len(EVENTS)]][f"image_{number}"] = Picture(image=nothing, faces=faces)
    for event, of_event in drawn.items():
        (root / IMAGE_PLACES[0] / event).mkdir(parents=True)
        for stem in of_event:
            (root / IMAGE_PLACES[0] / event / f"{stem}{IMAGE_SUFFIX}").write_bytes(b"-")
    (root / TRUTH_PLACES[0]).mkdir(parents=True)
    for name, content in demo_widerface.truth_files(drawn).items():
        (root / TRUTH_PLACES[0] / name).write_bytes(content)
    facts = datasets.inspect(root, "widerface")
    (root / "manifest.json").write_bytes(facts.manifest.text)
    return DatasetRef(
        name="large",
        format="widerface",
        root=root,
        digest=facts.digest,
        samples=facts.samples,
        manifest=root / "manifest.json",
    )


def _shaken(faces: Array, generator: np.random.Generator) -> Detections:
    """Return faces seen several times, a little beside, until there are enough."""
    boxes = faces[generator.integers(0, len(faces), FOUND)]
    boxes += generator.normal(0, 0.25, boxes.shape) * np.tile(boxes[:, 2:], 2)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + np.maximum(boxes[:, 2:], 1)], axis=1)
    return Detections(
        boxes=corners.astype(np.float32),
        scores=np.sort(generator.random(FOUND, dtype=np.float32))[::-1],
        labels=np.ones(FOUND, dtype=np.int64),
    )
