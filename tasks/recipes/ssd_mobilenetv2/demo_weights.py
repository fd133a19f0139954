"""Weights that find the shapes of `tasks.demo_voc`, made in seconds without training.

The backbone is random: its first blocks look for edges and colours, the later ones mostly average, so that what the
first ones saw is still there where the heads look. BatchNorm takes its statistics from training pictures. The heads'
depthwise part is random too; their last layer is fitted in closed form (ridge regression), for each of the six priors
of a cell: which class it shows, and where the object's edges are.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from torch import nn

from tasks import batch_statistics, closed_form, demo_voc
from tasks.protocols import Sample, VocObjects
from tasks.recipes.ssd_mobilenetv2 import preprocess, priors, targets
from tasks.recipes.ssd_mobilenetv2.network import CLASSES, SSDLite
from tasks.recipes.ssd_mobilenetv2.targets import Targets

_VERSION: Final = 1  # raised when other weights come out
_LOOKING_BLOCKS: Final = 2  # blocks of free random filters
_SMOOTH_JITTER: Final = 1.5  # of a later filter's taps, relative to the mean filter
_LATE_SHIFT: Final = 2.0  # keeps most late ReLU6 open: random closed ones would forget the picture layer by layer
_EARLY_SHIFT: Final = 0.5
_SHIFT_SPREAD: Final = 0.5
_CALIBRATION_IMAGES: Final = 16
_CHANNELS: Final = 576  # of each map that the heads make use of; more take longer and find no more
_RIDGE: Final = 300.0
_SHOWING_SHARE: Final = 0.25  # weight of all cells that show an object, against all others
_FEWEST: Final = 8  # cells that show an object which a prior needs to be fitted
_LOGIT_STEP: Final = 10.0  # between a cell that shows nothing and one that shows an object
_LOGIT_NOTHING: Final = -5.0  # against the background's 0
_LOGIT_UNUSED: Final = -20.0


def fit(network: nn.Module, samples: Sequence[Sample], truth: Sequence[VocObjects], *, seed: int) -> None:
    """Fill a network with weights that find the objects of some pictures.

    Args:
        network: from `SsdMobileNetV2.network()`; changed in place, in eval mode afterwards.
        samples: the pictures, preprocessed.
        truth: their objects, in pixels of the originals.
        seed: of all that is random.
    """
    if not isinstance(network, SSDLite):
        raise TypeError("these weights are for SSDLite")
    images = torch.from_numpy(np.stack([sample.array for sample in samples]))
    _draw(network, seed)
    batch_statistics.take(network, images[:_CALIBRATION_IMAGES])
    wanted = targets.of_pictures([sample.meta for sample in samples], truth)
    classes = np.unique(wanted.labels[wanted.labels > 0]).tolist()
    with torch.inference_mode():
        levels = list(_features(network, images))
    first = 0
    for number, features in enumerate(levels):
        last = first + priors.LEVELS[number].priors
        heads = network.classification_headers[number], network.regression_headers[number]
        _fit_level(heads, features, wanted.between(first, last), classes)
        first = last


def checkpoint(folder: Path, *, pictures: int = 128, seed: int = 0) -> Path:
    """Return a checkpoint in the published form, a bare state dict; made in seconds, or found made.

    Args:
        folder: where it lies, under a name that tells the parameters; existing.
        pictures: how many to fit to; those of `tasks.demo_voc` of the same seed are the same ones.
        seed: of the pictures and of the weights.
    """
    path = folder / f"ssd_mobilenetv2_demo_v{_VERSION}_{pictures}_{seed}.pth"
    if path.is_file():
        return path
    with tempfile.TemporaryDirectory(dir=folder, prefix=".npuq-demo-") as scratch:
        network, made = SSDLite().eval(), Path(scratch) / "made.pth"
        shown = list(demo_voc.pictures(pictures, seed=seed))
        samples = [_sample(picture, Path(scratch)) for picture in shown]
        fit(network, samples, [picture.truth for picture in shown], seed=seed)
        torch.save(network.state_dict(), made)
        made.rename(path)
    return path


def _sample(picture: demo_voc.Picture, scratch: Path) -> Sample:
    """Return a picture as it comes out of a dataset, the losses of JPEG included."""
    path = scratch / "picture.jpg"
    demo_voc.save(picture, path)
    return preprocess.prepare(path)


def _draw(network: SSDLite, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, layer in network.named_modules():
            late = not name.startswith("base_net.") or int(name.split(".")[1]) >= _LOOKING_BLOCKS
            if isinstance(layer, nn.BatchNorm2d):
                layer.bias.normal_(_LATE_SHIFT if late else _EARLY_SHIFT, _SHIFT_SPREAD, generator=generator)
            elif isinstance(layer, nn.Conv2d) and layer.groups > 1 and "headers" not in name:
                taps = layer.weight[0].numel()
                layer.weight.normal_(1 / taps, (_SMOOTH_JITTER if late else 1) / taps, generator=generator)
            elif isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        for heads in zip(network.classification_headers, network.regression_headers, strict=True):
            classification, regression = (_split(head)[0] for head in heads)
            regression.load_state_dict(classification.state_dict())  # one set of features does for both


def _features(network: SSDLite, images: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield what the last layers of a level's heads see, level by level: float32 (N * cells, channels)."""
    # One by one and channels last: half the time of a batch.
    maps = [network.feature_maps(image[None].contiguous(memory_format=torch.channels_last)) for image in images]
    for number, head in enumerate(network.classification_headers):
        depthwise, _ = _split(head)
        seen = torch.cat([depthwise(of_image[number])[:, :_CHANNELS] for of_image in maps])
        yield seen.permute(0, 2, 3, 1).flatten(0, 2)


def _split(head: nn.Module) -> tuple[nn.Sequential, nn.Conv2d]:
    """Return the layers of a head before the last one, and the last one; the coarsest level has only that."""
    layers = [head] if isinstance(head, nn.Conv2d) else list(head.children())
    return nn.Sequential(*layers[:-1]), cast("nn.Conv2d", layers[-1])


def _fit_level(heads: tuple[nn.Module, nn.Module], features: torch.Tensor, wanted: Targets, classes: list[int]) -> None:
    """Fit the last layers of a level's two heads, slot by slot of a cell's priors."""
    rows, mean, deviation = closed_form.standardise(features)
    gram = (rows.T @ rows).double()
    scores = torch.zeros(priors.PRIORS_PER_CELL, CLASSES, rows.shape[1], dtype=torch.float64)
    scores[:, 1:, -1] = _LOGIT_UNUSED
    places = torch.zeros(priors.PRIORS_PER_CELL, 4, rows.shape[1], dtype=torch.float64)
    for slot in range(priors.PRIORS_PER_CELL):
        labels = torch.from_numpy(wanted.labels[:, slot])
        showing = torch.nonzero(labels).flatten()
        if len(showing) < _FEWEST:
            continue
        seen = rows[showing].double()
        doubtful = rows[torch.from_numpy(wanted.doubtful[:, slot])].double()
        weight = max(1.0, _SHOWING_SHARE * len(rows) / len(showing))
        weighted = gram + (weight - 1) * seen.T @ seen - doubtful.T @ doubtful
        shows = (labels[showing, None] == torch.tensor(classes)).double()
        scores[slot, classes] = _LOGIT_STEP * closed_form.ridge(weighted, weight * seen.T @ shows, weight * _RIDGE).T
        scores[slot, classes, -1] += _LOGIT_NOTHING
        places[slot] = closed_form.ridge(
            seen.T @ seen, seen.T @ torch.from_numpy(wanted.locations[showing, slot]).double(), _RIDGE
        ).T
    for head, weights in zip(heads, (scores, places), strict=True):
        closed_form.write(_split(head)[1], weights.flatten(0, 1), mean, deviation)
