"""Weights that find the demo's shapes, made in seconds without training.

The first convolution averages the colours below each of its filters, and the backbone hands these numbers on: its
shortcuts keep every eighth, and what the residual branches add is random and faint. The neck does the same at level 5,
in all seven stages. There, and there only, the head looks: its four convolutions are random, and its last layers are
fitted in closed form (ridge regression). Since what is handed on is known beforehand, a fit needs neither the backbone
nor the neck, which are most of the network's work.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks import anchor_targets, closed_form, demo_coco, demo_shapes
from tasks.anchor_targets import Objects
from tasks.coco_categories import CATEGORY_IDS
from tasks.protocols import Sample
from tasks.recipes.nas_fpn import anchors, network, preprocess, shapes
from tasks.recipes.nas_fpn.network import NasFpnRetinaNet

_VERSION: Final = 1  # of the weights; raised when equal parameters give others
_LEVEL: Final = 5  # that finds things: stride 32, square anchors of 128 to 203 pixels
_PLACE: Final = shapes.LEVELS.index(_LEVEL)
_COLOURS: Final = 64  # channels of the first convolution, which are handed on
_TAP_JITTER: Final = 0.3  # of a filter's taps, relative to the mean filter
_SHIFT_SPREAD: Final = 1.0  # of the colour from which on a filter says something
_FAINT: Final = 0.02  # of what is not needed, relative to what is
_RIDGE: Final = 300.0
_SHOWING_SHARE: Final = 0.25  # weight of all anchors that show an object, against all others
_FEWEST: Final = 8  # anchors of a kind that show an object, for that kind to be fitted
_LOGIT_STEP: Final = 10.0  # between an anchor that shows nothing and one that shows an object
_LOGIT_NOTHING: Final = -5.0
_LOGIT_UNUSED: Final = -9.0


def fit(model: nn.Module, samples: Sequence[Sample], pictures: Sequence[Objects], *, seed: int) -> None:
    """Fill a NAS-FPN with weights that find the objects of some pictures.

    Args:
        model: from `NasFpn.network()`, as it is made; changed in place.
        samples: preprocessed pictures.
        pictures: their objects, in pixels of the canvas; labels are category ids.
        seed: of all that is random.
    """
    if not isinstance(model, NasFpnRetinaNet):
        raise TypeError("these weights are for NasFpnRetinaNet")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        _draw_backbone(model.backbone, generator)
        _draw_neck(model.neck, generator)
        handed_on = torch.cat([_handed_on(model.backbone, torch.from_numpy(sample.array)[None]) for sample in samples])
        features = _draw_head(model.bbox_head, handed_on, generator)
        _fit_head(model.bbox_head, features, pictures)


def checkpoint(folder: Path, *, pictures: int = 96, seed: int = 0) -> Path:
    """Return a checkpoint in mmcv's form, `{'meta': ..., 'state_dict': ...}`; made in seconds, or found made.

    Args:
        folder: where it lies, under a name that tells the parameters; existing.
        pictures: how many to fit to; those of `tasks.demo_coco` of the same seed are the same ones.
        seed: of the pictures and of the weights.
    """
    path = folder / f"nas_fpn_demo_v{_VERSION}_{pictures}_{seed}.pth"
    if path.is_file():
        return path
    with tempfile.TemporaryDirectory(dir=folder, prefix=".npuq-demo-") as scratch:
        made = Path(scratch) / "made.pth"
        model = NasFpnRetinaNet().eval()
        scenes = list(demo_shapes.scenes(pictures, seed=seed))
        samples = [_sample(scene, Path(scratch)) for scene in scenes]
        fit(model, samples, [_objects(*pair) for pair in zip(scenes, samples, strict=True)], seed=seed)
        torch.save({"meta": {"epoch": 0}, "state_dict": model.state_dict()}, made)
        made.rename(path)
    return path


def _sample(scene: demo_shapes.Scene, scratch: Path) -> Sample:
    """Return a picture as it comes out of a dataset, the losses of JPEG included."""
    demo_coco.save(scene, scratch / "picture.jpg")
    return preprocess.prepare(scratch / "picture.jpg")


def _objects(scene: demo_shapes.Scene, sample: Sample) -> Objects:
    boxes = np.array([drawn.box for drawn in scene.shapes], dtype=np.float32).reshape(-1, 4)
    labels = np.array([demo_coco.CATEGORY_IDS[drawn.look] for drawn in scene.shapes], dtype=np.int64)
    meta = sample.meta
    growth = [meta["resized_width"] / meta["width"], meta["resized_height"] / meta["height"]]
    moved = boxes * np.array(growth * 2) + np.array([meta["pad_left"], meta["pad_top"]] * 2)
    return Objects(boxes=moved.astype(np.float32), labels=labels)


def _draw(convolution: nn.Conv2d, generator: torch.Generator, share: float) -> None:
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu", generator=generator)
    convolution.weight.mul_(share)
    if convolution.bias is not None:
        convolution.bias.zero_()


def _hand_on(convolution: nn.Conv2d) -> None:
    """Let the colours pass a convolution as they are, beside what it has drawn."""
    middle = convolution.kernel_size[0] // 2
    convolution.weight[:_COLOURS, :_COLOURS, middle, middle] += torch.eye(_COLOURS)


def _draw_backbone(backbone: nn.Module, generator: torch.Generator) -> None:
    for name, layer in backbone.named_modules():
        if isinstance(layer, nn.Conv2d):
            shortcut = "downsample" in name
            _draw(layer, generator, _FAINT if shortcut else 1)
            if shortcut:
                _hand_on(layer)
        elif name.endswith("bn3"):
            nn.init.constant_(cast("nn.BatchNorm2d", layer).weight, _FAINT)
    first, norm = cast("nn.Conv2d", backbone.get_submodule("conv1")), backbone.get_submodule("bn1")
    taps = first.weight[0, 0].numel()
    colours = torch.randn(_COLOURS, 3, 1, 1, generator=generator)
    jitter = torch.randn(first.weight.shape, generator=generator)
    first.weight.copy_(colours / taps * (1 + _TAP_JITTER * jitter))
    cast("nn.BatchNorm2d", norm).bias.normal_(0, _SHIFT_SPREAD, generator=generator)


def _draw_neck(neck: nn.Module, generator: torch.Generator) -> None:
    for name, layer in neck.named_modules():
        if isinstance(layer, nn.Conv2d):
            _draw(layer, generator, _FAINT)
            if name.startswith("lateral_convs.2.") or "sum_55_5" in name:
                _hand_on(layer)


def _handed_on(backbone: nn.Module, image: Tensor) -> Tensor:
    """Return float32 (1, 256, 20, 20): what level 5 hands to the head, without what is faint.

    Computed from the few pixels that are looked at: first convolution and pooling have 3 x 3 outputs for each cell.
    """
    first, norm = cast("nn.Conv2d", backbone.get_submodule("conv1")), backbone.get_submodule("bn1")
    stride, side = 2**_LEVEL, shapes.side(_LEVEL)
    reach = 5  # pixels around a cell's corner
    window = 2 * reach + 1
    patches = functional.unfold(image, window, padding=reach, stride=stride)
    patches = patches[0].T.reshape(-1, 3, window, window)
    seen = functional.relu(norm(functional.conv2d(patches, first.weight, stride=2))).amax(dim=(2, 3))
    level = torch.zeros(1, network.CHANNELS, side, side)
    level[0, :_COLOURS] = seen.T.reshape(_COLOURS, side, side)
    return level


def _draw_head(head: nn.Module, level: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one tower for classes and boxes; returns what its last convolution gives at the level (N, 256, 20, 20)."""
    towers = [cast("nn.ModuleList", head.get_submodule(name)) for name in ("cls_convs", "reg_convs")]
    for number in range(network.HEAD_CONVOLUTIONS):
        layers = [tower[_PLACE].get_submodule(str(number)) for tower in towers]
        convolution = cast("nn.Conv2d", layers[0].get_submodule("conv"))
        _draw(convolution, generator, 1)
        seen = torch.cat([convolution(level[row : row + 1]) for row in range(len(level))])
        for layer in layers:
            cast("nn.Conv2d", layer.get_submodule("conv")).weight.copy_(convolution.weight)
            norm = cast("nn.BatchNorm2d", layer.get_submodule("bn"))
            cast("Tensor", norm.running_mean).copy_(seen.mean(dim=(0, 2, 3)))
            cast("Tensor", norm.running_var).copy_(seen.var(dim=(0, 2, 3)))
        level = functional.relu(cast("nn.BatchNorm2d", layers[0].get_submodule("bn"))(seen))
    for tower in towers:
        for place, of_level in enumerate(tower):
            if place != _PLACE:  # nothing but the last layer's bias is left
                last = of_level.get_submodule(f"{network.HEAD_CONVOLUTIONS - 1}.bn")
                nn.init.zeros_(cast("nn.BatchNorm2d", last).weight)
    return level


def _fit_head(head: nn.Module, features: Tensor, pictures: Sequence[Objects]) -> None:
    """Fit the last layers, for each of a cell's nine anchors: what it shows, and where that is."""
    labels = sorted({int(label) for objects in pictures for label in objects.labels})
    classes = [CATEGORY_IDS.index(label) for label in labels]
    kinds, counts, moves, matched = _targets(pictures, labels)
    rows, mean, deviation = closed_form.standardise(features.permute(0, 2, 3, 1).flatten(0, 2))
    rows = rows.double()
    gram = rows.T @ rows
    logits = torch.zeros(shapes.ANCHORS_PER_CELL, shapes.CLASSES, rows.shape[1], dtype=torch.float64)
    logits[..., -1] = _LOGIT_UNUSED
    places = torch.zeros(shapes.ANCHORS_PER_CELL, shapes.BOX_VALUES, rows.shape[1], dtype=torch.float64)
    for anchor in range(shapes.ANCHORS_PER_CELL):
        showing = torch.nonzero(matched[:, anchor]).flatten()
        if len(showing) < _FEWEST:
            continue
        shown, doubtful = rows[showing], rows[counts[:, anchor] == 0]
        weight = max(1.0, _SHOWING_SHARE * len(rows) / len(showing))
        weighted = gram + (weight - 1) * shown.T @ shown - doubtful.T @ doubtful
        fitted = closed_form.ridge(weighted, weight * shown.T @ kinds[showing, anchor], weight * _RIDGE)
        logits[anchor, classes] = _LOGIT_STEP * fitted.T
        logits[anchor, classes, -1] += _LOGIT_NOTHING
        places[anchor] = closed_form.ridge(shown.T @ shown, shown.T @ moves[showing, anchor], _RIDGE).T
    for name, weights in (("retina_cls", logits), ("retina_reg", places)):
        closed_form.write(cast("nn.Conv2d", head.get_submodule(name)), weights.flatten(0, 1), mean, deviation)


def _targets(pictures: Sequence[Objects], labels: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return classes, counts, moves and matches as `anchor_targets.Targets` has them: float64 (N * cells, 9, ...)."""
    table = anchors.anchors(_LEVEL)
    class_of = {label: place for place, label in enumerate(labels)}
    centres, sizes = (table[:, :2] + table[:, 2:]) / 2, table[:, 2:] - table[:, :2]
    wanted = anchor_targets.assign(centres, sizes, pictures, class_of)
    classes, counts, moves, matched = (
        torch.from_numpy(array).reshape(-1, shapes.ANCHORS_PER_CELL, *array.shape[2:]).double()
        for array in (wanted.classes, wanted.counts, wanted.moves, wanted.matched)
    )
    return classes, counts, moves, matched
