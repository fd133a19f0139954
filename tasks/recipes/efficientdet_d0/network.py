"""EfficientDet-D0 as published in rwightman/efficientdet-pytorch (`tf_efficientdet_d0`), in plain torch."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.recipes.efficientdet_d0 import backbone, bifpn

#: Height and width of the input are multiples of this, so that each level but the last has even sides.
SIDE_MULTIPLE: Final = 128

_REPEATS: Final = 3


class EfficientDet(nn.Module):
    """The network; keys `backbone`, `fpn`, `class_net` and `box_net`.

    Args:
        classes: per anchor.
        anchors: per cell of a map.
    """

    def __init__(self, *, classes: int, anchors: int) -> None:
        super().__init__()
        self.backbone = backbone.Backbone()
        self.fpn = bifpn.BiFpn()
        self.class_net = Head(anchors * classes)
        self.box_net = Head(anchors * 4)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map float32 (N, 3, H, W) to ten maps, levels 3 to 7 of each: class logits, then box codes.

        The maps of a level are (N, anchors * classes, H / stride, W / stride) and (N, anchors * 4, ...).

        Raises:
            ValueError: a side is no multiple of `SIDE_MULTIPLE`; padding would not be the published one.
        """
        if not torch.onnx.is_in_onnx_export() and any(side % SIDE_MULTIPLE for side in x.shape[2:]):
            raise ValueError(f"sides of {tuple(x.shape[2:])} are no multiples of {SIDE_MULTIPLE}")
        levels = self.fpn(self.backbone(x))
        return (*self.class_net(levels), *self.box_net(levels))


class Head(nn.Module):
    """Convolutions that all levels share, with BatchNorm of each level's own."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        width = bifpn.WIDTH
        self.conv_rep = nn.ModuleList(bifpn.SeparableConv(width, width) for _ in range(_REPEATS))
        self.bn_rep = nn.ModuleList(
            nn.ModuleList(LevelNorm(width) for _ in range(bifpn.LEVELS)) for _ in range(_REPEATS)
        )
        self.predict = bifpn.SeparableConv(width, outputs)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Map each level (N, 64, H, W) to (N, outputs, H, W)."""
        return [self.at_level(number, level) for number, level in enumerate(levels)]

    def at_level(self, number: int, x: Tensor) -> Tensor:
        """Map one level (N, 64, H, W), counted from 0, to (N, outputs, H, W)."""
        for convolution, norms in zip(self.conv_rep, self.bn_rep, strict=True):
            norm = norms.get_submodule(str(number))
            x = functional.silu(norm(convolution(x)))
        out: Tensor = self.predict(x)
        return out


class LevelNorm(nn.Module):
    """BatchNorm of one level, under the key `bn`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = backbone.batch_norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        out: Tensor = self.bn(x)
        return out
