"""How many images a minute one core turns from a network's outputs into detections, in this process and one by one."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.figures import Figure
from tasks import registry
from tasks.protocols import Array, Recipe

SECONDS: Final = 3.0  #: of measuring, per recipe and kind of picture
_WARM_UP: Final = 2  #: images that are not counted
_META: Final[Mapping[str, Any]] = {
    "width": 640,
    "height": 480,
    "scale": 1.25,
    "resized_width": 640,
    "resized_height": 480,
    "pad_left": 0,
    "pad_top": 80,
}
#: How sure a trained detector is of nothing: mean and deviation of its logits where there is no object.
_NOTHING: Final = (-8.5, 1.0)
_OBJECTS: Final = 15  #: in a picture; each is seen by anchors around it
_SEEN_BY: Final = 40


def measure(_folder: Path) -> list[Figure]:
    """Measure each detector on outputs as trained weights give them, and on a picture that is full of candidates."""
    figures = []
    for name, outputs in _OUTPUTS.items():
        recipe = registry.get(name)
        for kind, crowded in (("an ordinary picture", False), ("a crowded picture", True)):
            rate, found = _images_per_minute(recipe, outputs(recipe, crowded=crowded))
            how = f"{kind}, {found} detections, {SECONDS:g} s in one process"
            figures.append(Figure(name=f"postprocessing, {name}", value=rate, unit="images/min", how=how))
    return figures


def _images_per_minute(recipe: Recipe, outputs: list[Array]) -> tuple[float, int]:
    found: Any = None
    for _ in range(_WARM_UP):
        (found,) = recipe.postprocess(outputs, [_META])
    started, images = time.process_time(), 0
    while (spent := time.process_time() - started) < SECONDS:
        recipe.postprocess(outputs, [_META])
        images += 1
    return 60 * images / spent, len(found.scores)


def _heads(recipe: Recipe, *, crowded: bool) -> list[Array]:
    """Return raw heads: logits of nothing, and objects that several anchors see; in a crowd, most anchors see some."""
    generator = np.random.default_rng(0)
    logits, boxes = [
        [generator.normal(*moments, spec.at_batch(1)).astype(np.float32) for spec in specs]
        for moments, specs in ((_NOTHING, recipe.outputs[:5]), ((0.0, 0.3), recipe.outputs[5:]))
    ]
    for level in logits:
        share = 0.05 if crowded else _OBJECTS * _SEEN_BY / sum(each.size for each in logits)
        places = generator.choice(level.size, max(1, int(share * level.size)), replace=False)
        level.reshape(-1)[places] += generator.uniform(5, 11, len(places)).astype(np.float32)
    return [*logits, *boxes]


def _scored_boxes(_recipe: Recipe, *, crowded: bool) -> list[Array]:
    """Return SSD's probabilities and boxes: background but for the priors around objects, or a bit of everything."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 1.0, (1, 3000, 21))
    logits[..., 0] += 4.0 if crowded else 9.0
    seen = generator.choice(3000, _OBJECTS * _SEEN_BY, replace=False)
    logits[0, seen, generator.integers(1, 21, len(seen))] += 9.0
    scores = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    near = generator.uniform(0, 0.7, (1, 3000, 2))
    boxes = np.concatenate([near, near + generator.uniform(0.05, 0.3, (1, 3000, 2))], axis=2)
    return [scores.astype(np.float32), boxes.astype(np.float32)]


_OUTPUTS: Final[Mapping[str, Callable[..., list[Array]]]] = {
    "ssd_mobilenetv2": _scored_boxes,
    "efficientdet_d0": _heads,
    "nas_fpn": _heads,
}
