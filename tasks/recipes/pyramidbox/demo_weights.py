"""Weights that find the faces of `tasks.demo_widerface`, made in seconds without training.

The backbone is random: its first convolutions look for edges and colours, the later ones mostly average, so that what
the first ones saw is still there where the heads look. The pyramid hands each lateral map on as it is, because what it
multiplies them by is all ones. The heads' last layers are fitted in closed form (ridge regression), level by level:
whether a cell's prior shows a face, and where the face's edges are.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor, nn

from tasks import batch_statistics, demo_widerface
from tasks.protocols import Array
from tasks.recipes.pyramidbox import postprocess, preprocess, shapes, targets
from tasks.recipes.pyramidbox.network import PyramidBoxNet
from tasks.recipes.pyramidbox.targets import Targets

SIDE: Final = 128  #: of the input that the weights are made for: a full one takes a minute per picture on a CPU

_VERSION: Final = 1  # raised when other weights come out
_LOOKING: Final = 2  # convolutions of free random filters; later ones average
_SMOOTH_JITTER: Final = 1.0  # of an averaging filter's taps, relative to the mean filter
_EARLY_SHIFT: Final = 0.5  # of outputs of unit deviation, before ReLU
_LATE_SHIFT: Final = 1.5  # keeps most late ReLUs open: closed ones would forget the picture layer by layer
_CALIBRATION_PICTURES: Final = 6
_LEVELS: Final = 4  # that are fitted: the pictures have no larger faces
_RIDGE: Final = 30.0
_SHOWING_SHARE: Final = 0.25  # weight of all cells that show a face, against all others
_FEWEST: Final = 8  # cells that show a face which a level needs to be fitted
_LOGIT_STEP: Final = 8.0  # between a cell that shows nothing and one that shows a face
_LOGIT_NOTHING: Final = -4.0
_LOGIT_UNUSED: Final = -20.0
_BOX: Final = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """A picture to fit to.

    Attributes:
        array: float32 (3, side, side), preprocessed.
        faces: float (K, 4), x1 y1 x2 y2 in pixels of `array`.
    """

    array: Array
    faces: Array


def fit(network: PyramidBoxNet, lessons: Sequence[Lesson], *, seed: int) -> None:
    """Fill a network with weights that find the faces of some pictures.

    Args:
        network: changed in place.
        lessons: the pictures, all of one size.
        seed: of all that is random.
    """
    images = torch.from_numpy(np.stack([lesson.array for lesson in lessons]))
    side = images.shape[-1]
    _draw(network, images[:_CALIBRATION_PICTURES], torch.Generator().manual_seed(seed))
    for layer in (*network.loc_layers, *network.conf_layers):
        _write(layer, {}, torch.empty(0), torch.empty(0))
    for layer in network.conf_layers[_LEVELS:]:
        nn.init.constant_(cast("Tensor", layer.bias)[1:4], _LOGIT_UNUSED)
    wanted = targets.of_pictures([lesson.faces for lesson in lessons], side)
    first = 0
    for level, features in enumerate(_features(network, images)):
        last = first + shapes.cells(side)[level] ** 2
        _fit_level(network, level, features, wanted.between(first, last))
        first = last


def checkpoint(folder: Path, *, pictures: int = 32, seed: int = 0, side: int = SIDE) -> Path:
    """Return a checkpoint in the published form, a bare state dict; made in seconds, or found made.

    Args:
        folder: where it lies, under a name that tells the parameters; existing.
        pictures: how many to fit to; those of `tasks.demo_widerface` of the same seed are the same ones.
        seed: of the pictures and of the weights.
        side: of the input.
    """
    path = folder / f"pyramidbox_demo_v{_VERSION}_{pictures}_{side}_{seed}.pth"
    if path.is_file():
        return path
    with tempfile.TemporaryDirectory(dir=folder, prefix=".npuq-demo-") as scratch:
        network, made = PyramidBoxNet(align_corners=True).eval(), Path(scratch) / "made.pth"
        shown = demo_widerface.pictures(pictures, seed=seed)
        fit(network, [_lesson(picture, number, side, Path(scratch)) for number, picture in enumerate(shown)], seed=seed)
        torch.save(network.state_dict(), made)
        made.rename(path)
    return path


def _lesson(picture: demo_widerface.Picture, number: int, side: int, scratch: Path) -> Lesson:
    """Return a picture as it comes out of a dataset, the losses of JPEG included; every other one is mirrored."""
    path = scratch / "picture.jpg"
    demo_widerface.save(picture, path)
    pass_name = (preprocess.ORIGINAL, preprocess.FLIPPED)[number % 2]
    sample = preprocess.prepare(path, pass_name, side)
    faces = picture.truth.boxes[(picture.truth.boxes[:, 2:] > 0).all(axis=1)]
    boxes = np.concatenate([faces[:, :2], faces[:, :2] + faces[:, 2:]], axis=1)
    width, height = sample.meta["width"], sample.meta["height"]
    if pass_name == preprocess.FLIPPED:
        boxes = postprocess.mirrored(boxes, width)
    return Lesson(array=sample.array, faces=boxes * side / max(width, height))


def _draw(network: PyramidBoxNet, images: Tensor, generator: torch.Generator) -> None:
    """Draw all weights but those of the heads; no layer's outputs on some pictures grow or vanish."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(cast("Tensor", layer.bias))
    for topdown, later in zip(network.lfpn_topdown, network.lfpn_later, strict=True):
        nn.init.zeros_(cast("nn.Conv2d", topdown).weight)
        nn.init.ones_(cast("Tensor", topdown.bias))
        nn.init.dirac_(cast("Tensor", later.weight))
    with torch.no_grad():
        _draw_backbone(network, images, generator)
        maps = network.context_inputs(images, shapes.sizes(*images.shape[2:]))
    for module, x in zip(network.cpm, maps, strict=True):
        batch_statistics.take(module, x)


def _draw_backbone(network: PyramidBoxNet, x: Tensor, generator: torch.Generator) -> None:
    """Draw VGG's filters one layer after another, each output channel with unit deviation on what comes before it."""
    looking = _LOOKING
    for layer in network.vgg:
        if isinstance(layer, nn.Conv2d):
            is_early = looking > 0
            if not is_early:
                _make_smooth(layer, generator)
            looking -= 1
            y = layer(x)
            deviation, mean = torch.std_mean(y, dim=(0, 2, 3))
            shift = _EARLY_SHIFT if is_early else _LATE_SHIFT
            layer.weight.div_((deviation + 1e-6)[:, None, None, None])
            cast("Tensor", layer.bias).copy_(shift - mean / (deviation + 1e-6))
        x = layer(x)


def _make_smooth(layer: nn.Conv2d, generator: torch.Generator) -> None:
    """Draw filters that mix channels at random and nearly average in space."""
    out, channels, *taps = layer.weight.shape
    mix = layer.weight.new_empty(out, channels, 1, 1).normal_(generator=generator)
    layer.weight.normal_(1, _SMOOTH_JITTER, generator=generator).mul_(mix / (channels**0.5 * taps[0] * taps[1]))


def _features(network: PyramidBoxNet, images: Tensor) -> Iterator[Tensor]:
    """Yield what the last layers of the heads see, level by level: float32 (N * cells, 512)."""
    sizes = shapes.sizes(*images.shape[2:])
    with torch.inference_mode():
        maps = [network.feature_maps(image[None], sizes)[:_LEVELS] for image in images]
    for of_level in zip(*maps, strict=True):
        yield torch.cat(of_level).permute(0, 2, 3, 1).flatten(0, 2)


def _fit_level(network: PyramidBoxNet, level: int, features: Tensor, wanted: Targets) -> None:
    """Fit the last layers of a level: the centre of their filters, and of what they say of faces only."""
    mean, deviation = features.mean(dim=0), features.std(dim=0) + 1e-3
    rows = torch.cat([(features - mean) / deviation, torch.ones(len(features), 1)], dim=1)
    showing, doubtful = torch.from_numpy(wanted.shows.ravel()), torch.from_numpy(wanted.doubtful.ravel())
    face = torch.zeros(rows.shape[1], dtype=torch.float64)
    face[-1] = _LOGIT_UNUSED
    places = torch.zeros(_BOX, rows.shape[1], dtype=torch.float64)
    if showing.count_nonzero() >= _FEWEST:
        seen, others = rows[showing].double(), rows[~showing & ~doubtful].double()
        weight = max(1.0, _SHOWING_SHARE * len(others) / len(seen))
        gram = seen.T @ seen
        face = _LOGIT_STEP * _ridge(weight * gram + others.T @ others, weight * seen.sum(dim=0), weight * _RIDGE)
        face[-1] += _LOGIT_NOTHING
        locations = torch.from_numpy(wanted.locations.reshape(-1, _BOX))[showing]
        places = _ridge(gram, seen.T @ locations.double(), _RIDGE).T
    _write(network.loc_layers[level], {row: places[row] for row in range(_BOX)}, mean, deviation)
    # The background says 0; of the face's scores that compete on all maps but the finest, each says the same.
    _write(network.conf_layers[level], dict.fromkeys((3,) if level == 0 else (1, 2, 3), face), mean, deviation)


def _ridge(gram: Tensor, products: Tensor, strength: float) -> Tensor:
    weights: Tensor = torch.linalg.solve(gram + strength * torch.eye(len(gram), dtype=gram.dtype), products)
    return weights


def _write(layer: nn.Module, weights: Mapping[int, Tensor], mean: Tensor, deviation: Tensor) -> None:
    """Write weights of some outputs for standardised features, their constant last; other outputs become 0."""
    convolution = cast("nn.Conv2d", layer)
    bias = cast("Tensor", convolution.bias)
    with torch.no_grad():
        convolution.weight.zero_()
        bias.zero_()
        for output, of_output in weights.items():
            scaled = of_output[:-1] / deviation
            convolution.weight[output, :, 1, 1] = scaled.float()
            bias[output] = (of_output[-1] - scaled @ mean.double()).float()
