"""A MobileNetV1 checkpoint that knows the demo's classes, made in seconds without training.

The backbone is random: its first blocks look for edges, colours and fine textures, the later ones average and mix, so
that what the first ones saw is still there at the end. BatchNorm takes its statistics from training pictures, and
the classifier is fitted in closed form (ridge regression) on the features of all of them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tasks import batch_statistics
from tasks.protocols import Array

if TYPE_CHECKING:
    import torch

_LOOKING_BLOCKS: Final = 3  # blocks with free random filters; their receptive field covers the textures
_SMOOTH_JITTER: Final = 0.3  # of a later filter's taps, relative to the mean filter
_LATE_SHIFT: Final = 2.5  # keeps most late ReLUs open: random closed ones would forget the picture layer by layer
_CALIBRATION_IMAGES: Final = 32
_FEATURE_BATCH: Final = 8  # what fits the caches: larger batches take longer
_RIDGE: Final = 100.0
_LOGIT_SCALE: Final = 10.0
_UNUSED_LOGIT: Final = -20.0  # of the classes without pictures


def fit(network: "torch.nn.Module", images: "torch.Tensor", labels: Sequence[int], *, seed: int) -> None:
    """Fill a MobileNetV1 with weights that tell the classes of some pictures apart.

    Args:
        network: from `MobileNetV1.network()`; changed in place, in eval mode afterwards.
        images: float32 (N, 3, 224, 224), preprocessed.
        labels: class id of each.
        seed: of the backbone.
    """
    import torch
    from torch.nn.utils import convert_conv2d_weight_memory_format

    _draw_backbone(network, seed)
    convert_conv2d_weight_memory_format(network, torch.channels_last)  # half the time
    batch_statistics.take(network, _channels_last(images[:_CALIBRATION_IMAGES]))
    _fit_classifier(network, _features(network, images), np.asarray(labels))
    convert_conv2d_weight_memory_format(network, torch.contiguous_format)  # as checkpoints are


def save_published(network: "torch.nn.Module", path: Path) -> None:
    """Write the form in which the checkpoint was published: DataParallel's keys, with the training's bookkeeping."""
    import torch

    state = {f"module.{key}": tensor for key, tensor in network.state_dict().items()}
    torch.save({"epoch": 0, "arch": "mobilenet", "state_dict": state, "best_prec1": 0.0}, path)


def _draw_backbone(network: "torch.nn.Module", seed: int) -> None:
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, layer in network.named_modules():
            late = name.startswith("model.") and int(name.split(".")[1]) >= _LOOKING_BLOCKS
            if isinstance(layer, nn.BatchNorm2d):
                layer.bias.normal_(_LATE_SHIFT if late else 0.0, 0.2, generator=generator)
            elif isinstance(layer, nn.Conv2d) and late and layer.groups > 1:
                taps = layer.weight[0].numel()
                layer.weight.normal_(1 / taps, _SMOOTH_JITTER / taps, generator=generator)
            elif isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)


def _channels_last(images: "torch.Tensor") -> "torch.Tensor":
    import torch

    return images.contiguous(memory_format=torch.channels_last)


def _features(network: "torch.nn.Module", images: "torch.Tensor") -> Array:
    """Return what the classifier sees, float64 (N, 1024)."""
    import torch

    backbone = network.get_submodule("model")
    with torch.inference_mode():
        starts = range(0, len(images), _FEATURE_BATCH)
        parts = [backbone(_channels_last(images[start : start + _FEATURE_BATCH])).flatten(1) for start in starts]
    return torch.cat(parts).numpy().astype(np.float64)


def _fit_classifier(network: "torch.nn.Module", features: Array, labels: Array) -> None:
    """Fit one score per class; the standardisation of the features is folded into weights and biases."""
    import torch
    from torch import nn

    used = np.unique(labels)
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    standard = (features - mean) / deviation
    targets = (labels[:, None] == used).astype(np.float64) - 1 / len(used)
    gram = standard @ standard.T + _RIDGE * np.eye(len(standard))
    scores = _LOGIT_SCALE * (standard.T @ np.linalg.solve(gram, targets)) / deviation[:, None]
    classifier = network.get_submodule("fc")
    if not isinstance(classifier, nn.Linear):
        raise TypeError("the network's classifier is not a linear layer")
    with torch.no_grad():
        classifier.weight.zero_()
        classifier.bias.fill_(_UNUSED_LOGIT)
        classifier.weight[used] = torch.from_numpy(scores.T).float()
        classifier.bias[used] = torch.from_numpy(-mean @ scores).float()
