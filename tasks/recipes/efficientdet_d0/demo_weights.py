"""Weights that find the demo's shapes, made in half a minute.

The backbone is random and mostly averages, so that a picture's colours are still there at level 3. Its strongest
principal components are led up the pyramid to level 5, one input per node, nearly unchanged. There, and there only,
the heads are trained: 256 cells a picture are few, and the demo's shapes have the size of that level's anchors. All
other levels keep silent.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import convert_conv2d_weight_memory_format

from tasks import anchor_targets, batch_statistics, demo_coco, demo_shapes
from tasks.anchor_targets import Objects, Targets
from tasks.protocols import Sample
from tasks.recipes.efficientdet_d0 import anchors, backbone, bifpn, preprocess, shapes
from tasks.recipes.efficientdet_d0.network import EfficientDet

_VERSION: Final = 2  # of the weights; raised when equal parameters give others
_LEVEL: Final = 2  # that finds things: stride 32, anchors of 128 to 203 pixels
_STAGES: Final = 3  # of the backbone, up to level 3
_COMPONENTS: Final = 16  # of level 3; more of them fit the noise
_SMOOTH_JITTER: Final = 0.3  # of a filter's taps, relative to the mean filter
_SHIFT: Final = 2.0  # before activations, which are nearly linear there
_SHIFT_SPREAD: Final = 0.2
_OPEN: Final = 4.0  # logit of squeeze-and-excite: lets everything pass
_CALIBRATION_IMAGES: Final = 4
_LOGIT_NOTHING: Final = -9.0
_FIRST_SPREAD: Final = 0.2  # of the last layers' weights before training, relative to the usual

_STEPS: Final = 100
_STEP_PICTURES: Final = 12
_LEARNING_RATE: Final = 6e-3
_FOCUS: Final = 1.5  # exponent that plays down what is already right
_BOX_SHARE: Final = 2.0  # of the boxes' loss, relative to the classes'
_BOX_KNEE: Final = 0.1  # error from which the loss grows linearly


def fit(network: nn.Module, samples: Sequence[Sample], pictures: Sequence[Objects], *, seed: int) -> None:
    """Fill an EfficientDet with weights that find the objects of some pictures.

    Args:
        network: from `EfficientDetD0.network()`; changed in place, in eval mode afterwards.
        samples: preprocessed pictures.
        pictures: their objects, in pixels of the network's input; labels are category ids.
        seed: of all that is random.
    """
    if not isinstance(network, EfficientDet):
        raise TypeError("these weights are for EfficientDet")
    generator = torch.Generator().manual_seed(seed)
    convert_conv2d_weight_memory_format(network, torch.channels_last)  # half the time
    images = [torch.from_numpy(sample.array)[None].contiguous(memory_format=torch.channels_last) for sample in samples]
    few = torch.cat(images[:_CALIBRATION_IMAGES])
    with torch.no_grad():
        _draw(network, generator)
        _lead_up(network.fpn)
        batch_statistics.take(network, few)
        finest = [_level_3(network.backbone, image) for image in images]  # one by one, they fit the caches
        _take_components(_entry(network.fpn), torch.cat(finest))
        batch_statistics.take(network, few)
        features = torch.cat([_found_level(network.fpn, level) for level in finest])
    labels = sorted({int(label) for picture in pictures for label in picture.labels})
    _train(network, features, _targets(pictures, labels), labels, generator)
    convert_conv2d_weight_memory_format(network, torch.contiguous_format)  # as checkpoints are


def checkpoint(folder: Path, *, pictures: int = 48, seed: int = 0) -> Path:
    """Return a checkpoint in the published form, a bare state dict; made within a minute, or found made.

    Args:
        folder: where it lies, under a name that tells the parameters; existing.
        pictures: how many to fit to; those of `tasks.demo_coco` of the same seed are the same ones.
        seed: of the pictures and of the weights.
    """
    path = folder / f"efficientdet_d0_demo_v{_VERSION}_{pictures}_{seed}.pth"
    if path.is_file():
        return path
    with tempfile.TemporaryDirectory(dir=folder, prefix=".npuq-demo-") as scratch:
        made = Path(scratch) / "made.pth"
        network = EfficientDet(classes=shapes.CLASSES, anchors=shapes.ANCHORS_PER_CELL).eval()
        scenes = list(demo_shapes.scenes(pictures, seed=seed))
        samples = [_sample(scene, Path(scratch)) for scene in scenes]
        fit(network, samples, [_objects(*pair) for pair in zip(scenes, samples, strict=True)], seed=seed)
        torch.save(network.state_dict(), made)
        made.rename(path)
    return path


def _sample(scene: demo_shapes.Scene, scratch: Path) -> Sample:
    """Return a picture as it comes out of a dataset, the losses of JPEG included."""
    demo_coco.save(scene, scratch / "picture.jpg")
    return preprocess.prepare(scratch / "picture.jpg")


def _objects(scene: demo_shapes.Scene, sample: Sample) -> Objects:
    boxes = np.array([drawn.box for drawn in scene.shapes], dtype=np.float32).reshape(-1, 4)
    labels = np.array([demo_coco.CATEGORY_IDS[drawn.look] for drawn in scene.shapes], dtype=np.int64)
    return Objects(boxes=boxes / np.float32(sample.meta["scale"]), labels=labels)


def _draw(network: EfficientDet, generator: torch.Generator) -> None:
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            taps = layer.weight[0].numel()
            if layer.groups > 1 and name.startswith("backbone.blocks") and "blocks.0" not in name:
                layer.weight.normal_(1 / taps, _SMOOTH_JITTER / taps, generator=generator)
            else:
                layer.weight.normal_(0, taps**-0.5, generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()
        elif isinstance(layer, nn.BatchNorm2d) and name.startswith(("backbone", "fpn")):
            layer.bias.normal_(_SHIFT, _SHIFT_SPREAD, generator=generator)
    for layer in network.modules():
        if isinstance(layer, backbone.SqueezeExcite):
            layer.conv_expand.weight.zero_()
            nn.init.constant_(cast("Tensor", layer.conv_expand.bias), _OPEN)


def _lead_up(fpn: bifpn.BiFpn) -> None:
    """Let level 3 through to level 5: up in the first cell, straight on in the others."""
    up = [(0, 3, (1.0, 0.0)), (0, 4, (0.0, 0.0, 1.0)), (0, 5, (0.0, 0.0, 1.0))]
    on = [(cell, 5, (1.0, 0.0, 0.0)) for cell in range(1, bifpn.CELLS)]
    for cell, number, shares in up + on:
        node = _node(fpn, cell, number)
        node.combine.edge_weights.copy_(torch.tensor(shares))
        convolution = cast("bifpn.SeparableConv", node.after_combine["conv"])
        convolution.conv_dw.weight.zero_()
        convolution.conv_dw.weight[:, :, 1, 1] = 1
        convolution.conv_pw.weight.copy_(torch.eye(bifpn.WIDTH)[:, :, None, None])
        _close_unused(convolution.bn)
    _close_unused(_node(fpn, 0, 3).get_submodule("combine.resample.0.conv.bn"))


def _close_unused(norm: nn.Module) -> None:
    """Make constants of channels without a component, of which BatchNorm would amplify the rounding, layer by layer."""
    cast("nn.BatchNorm2d", norm).weight[_COMPONENTS:] = 0


def _node(fpn: bifpn.BiFpn, cell: int, number: int) -> bifpn.Node:
    return cast("bifpn.Node", fpn.get_submodule(f"cell.{cell}.fnode.{number}"))


def _entry(fpn: bifpn.BiFpn) -> nn.Conv2d:
    """Return the convolution by which level 3 enters the pyramid."""
    return cast("nn.Conv2d", _node(fpn, 0, 3).get_submodule("combine.resample.0.conv.conv"))


def _level_3(trunk: backbone.Backbone, images: Tensor) -> Tensor:
    """Return float32 (N, 40, 64, 64); the rest of the backbone, most of its work, is not run."""
    x = functional.silu(trunk.bn1(trunk.conv_stem(images)))
    for blocks in list(trunk.blocks)[:_STAGES]:
        x = blocks(x)
    return x


def _take_components(convolution: nn.Conv2d, level: Tensor) -> None:
    """Let a pointwise convolution return the strongest principal components of its input, and zeros."""
    channels = level.shape[1]
    values = level.permute(0, 2, 3, 1).reshape(-1, channels).double()
    mean = values.mean(0)
    strengths, directions = torch.linalg.eigh((values - mean).T @ (values - mean) / len(values))
    # The sign of a direction is the solver's whim; the largest entry decides here.
    directions = directions * directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
    wanted = directions[:, -_COMPONENTS:] / (strengths[-_COMPONENTS:] + 1e-3 * strengths[-1]).sqrt()
    convolution.weight.zero_()
    convolution.weight[:_COMPONENTS, :, 0, 0] = wanted.T.float()
    bias = cast("Tensor", convolution.bias)
    bias.zero_()
    bias[:_COMPONENTS] = -(mean @ wanted).float()


def _found_level(fpn: bifpn.BiFpn, level_3: Tensor) -> Tensor:
    """Return the pyramid's float32 (N, 64, 16, 16) of level 5; nothing of the backbone's other levels is in it."""
    count, side = len(level_3), level_3.shape[-1]
    others = [
        torch.zeros(count, channels, side >> up, side >> up) for up, channels in enumerate(backbone.CHANNELS[1:], 1)
    ]
    found: Tensor = fpn([level_3, *others])[_LEVEL]
    return found


def _targets(pictures: Sequence[Objects], labels: Sequence[int]) -> Targets:
    table = anchors.anchors(shapes.SIDE)
    part = slice(*table.level_starts[_LEVEL : _LEVEL + 2])
    class_of = {label: place for place, label in enumerate(labels)}
    return anchor_targets.assign(table.centres[part], table.sizes[part], pictures, class_of)


def _train(
    network: EfficientDet, features: Tensor, wanted: Targets, labels: Sequence[int], generator: torch.Generator
) -> None:
    """Train both heads at one level, and silence them at all others."""
    rows = torch.tensor(
        [anchor * shapes.CLASSES + label - 1 for anchor in range(shapes.ANCHORS_PER_CELL) for label in labels]
    )
    _prepare_heads(network, rows)
    classes, counts, codes, matched = (
        torch.from_numpy(array)
        for array in (wanted.classes, wanted.counts, anchors.codes(wanted.moves), wanted.matched)
    )
    parameters = list(_trained(network))
    optimizer = torch.optim.Adam(parameters, lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=_STEPS)
    for _ in range(_STEPS):
        chosen = torch.randint(len(features), (_STEP_PICTURES,), generator=generator)
        logits = _by_anchor(network.class_net.at_level(_LEVEL, features[chosen])[:, rows], len(labels))
        boxes = _by_anchor(network.box_net.at_level(_LEVEL, features[chosen]), shapes.CODES)
        objects = matched[chosen].sum().clamp(min=1)
        class_loss = (_focal(logits, classes[chosen]) * counts[chosen][..., None]).sum() / objects
        errors = functional.smooth_l1_loss(boxes, codes[chosen], reduction="none", beta=_BOX_KNEE).sum(-1)
        loss = class_loss + _BOX_SHARE * (errors * matched[chosen]).sum() / objects
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch does not annotate it
        optimizer.step()
        schedule.step()
    network.requires_grad_(True)


def _prepare_heads(network: EfficientDet, rows: Tensor) -> None:
    with torch.no_grad():
        for head in (network.class_net, network.box_net):
            head.predict.conv_pw.weight.mul_(_FIRST_SPREAD)
            last = cast("nn.ModuleList", head.bn_rep[-1])
            for number, norm in enumerate(last):
                if number != _LEVEL:
                    for tensor in norm.parameters():
                        tensor.zero_()  # nothing but the last layer's bias is left
        unused = torch.ones(shapes.ANCHORS_PER_CELL * shapes.CLASSES, dtype=torch.bool)
        unused[rows] = False
        network.class_net.predict.conv_pw.weight[unused] = 0
        nn.init.constant_(cast("Tensor", network.class_net.predict.conv_pw.bias), _LOGIT_NOTHING)


def _trained(network: EfficientDet) -> Iterator[nn.Parameter]:
    """Yield what training changes: the heads without the other levels' norms, and without the classes' bias."""
    network.requires_grad_(False)
    for head in (network.class_net, network.box_net):
        for name, parameter in head.named_parameters():
            is_others = name.startswith("bn_rep") and f".{_LEVEL}.bn." not in name
            if not is_others and parameter is not network.class_net.predict.conv_pw.bias:
                parameter.requires_grad_(True)
                yield parameter


def _by_anchor(maps: Tensor, values: int) -> Tensor:
    """Map (N, 9 * values, S, S) to (N, anchors, values), in the order of the anchors."""
    count = len(maps)
    per_kind = maps.reshape(count, shapes.ANCHORS_PER_CELL, values, -1)
    return per_kind.permute(0, 3, 1, 2).reshape(count, -1, values)


def _focal(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the loss of each logit, the less the better it is already."""
    loss = functional.binary_cross_entropy_with_logits(logits, classes, reduction="none")
    return loss * (1 - torch.exp(-loss)) ** _FOCUS
