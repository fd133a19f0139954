"""PyramidBox as published in yxlijun/Pyramidbox.pytorch, in plain torch: VGG-16, a multiplying pyramid, six heads.

Modules are named as there, so that its checkpoints fit key by key. What follows the raw heads (boxes, suppression)
happens on the host, see `postprocess`.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.recipes.pyramidbox import shapes
from tasks.recipes.pyramidbox.shapes import Size

_VGG: Final = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  #: channels and convolutions between the pools
_FC: Final = 1024
_TAPS: Final = (16, 23, 30)  #: modules of `vgg` up to conv3_3, conv4_3 and conv5_3, their ReLU included
_CHANNELS: Final = (256, 512, 512, 1024, 512, 256)  #: of the six maps that the heads begin with
_CONTEXT: Final = 512  #: of what the context modules make of each
_NORM_SCALES: Final = (10.0, 8.0, 5.0)
_NORM_EPSILON: Final = 1e-10
_BOX: Final = 4
_RIVALS: Final = 3  # scores of which the greatest counts


class Heads(NamedTuple):
    """What the network says of each prior, level by level, row by row.

    Attributes:
        face_loc, head_loc: float32 (N, P, 4), corrections of the prior.
        face_conf, head_conf: float32 (N, P, 2), logits: background, then face (or head).
    """

    face_loc: Tensor
    face_conf: Tensor
    head_loc: Tensor
    head_conf: Tensor


class PyramidBoxNet(nn.Module):
    """float32 (N, 3, H, W) to corrections (N, P, 4) of the priors, and scores (N, P, 2): background, face.

    Args:
        align_corners: of the bilinear upsampling between the pyramid's levels. Weights want the one that they were
            trained with.
    """

    def __init__(self, *, align_corners: bool) -> None:
        super().__init__()
        self._align_corners = align_corners
        self.vgg = nn.ModuleList(_vgg())
        self.extras = nn.ModuleList(
            [
                nn.Conv2d(_FC, 256, 1),
                nn.Conv2d(256, 512, 3, stride=2, padding=1),
                nn.Conv2d(512, 128, 1),
                nn.Conv2d(128, 256, 3, stride=2, padding=1),
            ]
        )
        self.L2Norm3_3, self.L2Norm4_3, self.L2Norm5_3 = (
            L2Norm(channels, scale) for channels, scale in zip(_CHANNELS, _NORM_SCALES, strict=False)
        )
        downwards = [(_CHANNELS[level + 1], _CHANNELS[level]) for level in (2, 1, 0)]
        self.lfpn_topdown = nn.ModuleList(nn.Conv2d(channels, out, 1) for channels, out in downwards)
        self.lfpn_later = nn.ModuleList(nn.Conv2d(out, out, 1) for _, out in downwards)
        self.cpm = nn.ModuleList(ContextModule(channels) for channels in _CHANNELS)
        self.loc_layers = nn.ModuleList(nn.Conv2d(_CONTEXT, 2 * _BOX, 3, padding=1) for _ in _CHANNELS)
        scores = [2 * (_RIVALS + 1), *[_RIVALS + 1 + 2] * (len(_CHANNELS) - 1)]
        self.conf_layers = nn.ModuleList(nn.Conv2d(_CONTEXT, count, 3, padding=1) for count in scores)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return corrections and scores of the faces; what is said of heads serves training only."""
        return self.at_size(image, *image.shape[2:])

    def at_size(self, image: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return the same of an image whose size is known beforehand, so that a traced graph computes no shapes."""
        sizes = shapes.sizes(height, width)
        maps = self.feature_maps(image, sizes)
        locations = [
            _rows(layer(x)[:, :_BOX], size) for layer, x, size in zip(self.loc_layers, maps, sizes, strict=True)
        ]
        logits = [
            _rows(_face_logits(layer(x), level), sizes[level])
            for level, (layer, x) in enumerate(zip(self.conf_layers, maps, strict=True))
        ]
        return torch.cat(locations, dim=1), torch.softmax(torch.cat(logits, dim=1), dim=2)

    def heads(self, image: Tensor) -> Heads:
        """Return everything that the network says before softmax, of heads too."""
        sizes = shapes.sizes(*image.shape[2:])
        maps = self.feature_maps(image, sizes)
        locations = [layer(x) for layer, x in zip(self.loc_layers, maps, strict=True)]
        scores = [layer(x) for layer, x in zip(self.conf_layers, maps, strict=True)]
        levels = (
            [x[:, :_BOX] for x in locations],
            [_face_logits(x, level) for level, x in enumerate(scores)],
            [x[:, _BOX:] for x in locations],
            [_head_logits(x, level) for level, x in enumerate(scores)],
        )
        return Heads(
            *(
                torch.cat([_rows(x, size) for x, size in zip(of_levels, sizes, strict=True)], dim=1)
                for of_levels in levels
            )
        )

    def feature_maps(self, image: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
        """Return the six maps that the heads look at, (N, 512, rows, columns) of the sizes given."""
        return [module(x) for module, x in zip(self.cpm, self.context_inputs(image, sizes), strict=True)]

    def context_inputs(self, image: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
        """Return the six maps of the pyramid, before their context is looked at."""
        conv3, conv4, conv5, fc7 = self._backbone(image)
        conv6 = functional.relu(self.extras[1](functional.relu(self.extras[0](fc7))))
        conv7 = functional.relu(self.extras[3](functional.relu(self.extras[2](conv6))))
        low3, low4, low5 = self.pyramid([conv3, conv4, conv5], fc7, sizes)
        return [self.L2Norm3_3(low3), self.L2Norm4_3(low4), self.L2Norm5_3(low5), fc7, conv6, conv7]

    def pyramid(self, laterals: Sequence[Tensor], top: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
        """Return the laterals, finest first, each multiplied by what comes from above; `sizes` begin with theirs."""
        fused: list[Tensor] = []
        x = top
        for level, topdown, later in zip((2, 1, 0), self.lfpn_topdown, self.lfpn_later, strict=True):
            larger = functional.interpolate(
                functional.relu(topdown(x)), size=sizes[level], mode="bilinear", align_corners=self._align_corners
            )
            x = functional.relu(larger * later(laterals[level]))
            fused.insert(0, x)
        return fused

    def _backbone(self, image: Tensor) -> list[Tensor]:
        taps, x = [], image
        for number, layer in enumerate(self.vgg, start=1):
            x = layer(x)
            if number in _TAPS:
                taps.append(x)
        return [*taps, x]


class KnownSize(nn.Module):
    """A network that is only asked for images of one size: what is exported."""

    def __init__(self, network: PyramidBoxNet, height: int, width: int) -> None:
        super().__init__()
        self._network = network
        self._size = height, width

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the network does."""
        return self._network.at_size(image, *self._size)


class L2Norm(nn.Module):
    """Brings each cell's features to unit length, then scales every channel by a weight."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        length = x.square().sum(dim=1, keepdim=True).sqrt() + _NORM_EPSILON
        return self.weight[:, None, None] * (x / length)


class ContextModule(nn.Module):
    """A residual block, then three fields of view side by side: (N, channels, H, W) to (N, 512, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch1 = _normed(channels, 1024, 1)
        self.branch2a = _normed(channels, 256, 1)
        self.branch2b = _normed(256, 256, 3)
        self.branch2c = _normed(256, 1024, 1)
        self.ssh_1 = nn.Conv2d(1024, 256, 3, padding=1)
        self.ssh_dimred = nn.Conv2d(1024, 128, 3, padding=1)
        self.ssh_2 = nn.Conv2d(128, 128, 3, padding=1)
        self.ssh_3a = nn.Conv2d(128, 128, 3, padding=1)
        self.ssh_3b = nn.Conv2d(128, 128, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the context of each cell."""
        inner = functional.relu(self.branch2b(functional.relu(self.branch2a(x))))
        combined = functional.relu(self.branch2c(inner) + self.branch1(x))
        narrow = functional.relu(self.ssh_dimred(combined))
        wide = self.ssh_3b(functional.relu(self.ssh_3a(narrow)))
        return functional.relu(torch.cat([self.ssh_1(combined), self.ssh_2(narrow), wide], dim=1))


def _vgg() -> list[nn.Module]:
    """Return VGG-16's layers without the classifier, whose first two layers are convolutions here."""
    layers: list[nn.Module] = []
    channels = 3
    for out, count in _VGG:
        for _ in range(count):
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU()]
            channels = out
        layers.append(nn.MaxPool2d(2, 2))
    fc6, fc7 = nn.Conv2d(channels, _FC, 3, padding=6, dilation=6), nn.Conv2d(_FC, _FC, 1)
    return [*layers, fc6, nn.ReLU(), fc7, nn.ReLU()]


def _normed(channels: int, out: int, kernel: int) -> nn.Sequential:
    """Return a convolution, which has a bias although BatchNorm follows, and that BatchNorm."""
    layers = nn.Sequential()
    layers.add_module("conv1", nn.Conv2d(channels, out, kernel, padding=kernel // 2))
    layers.add_module("bn1", nn.BatchNorm2d(out))
    return layers


def _face_logits(scores: Tensor, level: int) -> Tensor:
    """Return (N, 2, H, W), background and face, of a map (N, 8 or 6, H, W); the greatest of three rivals counts.

    On the finest map, where most false faces arise, three backgrounds compete; on the others three faces do.
    """
    if level == 0:
        return torch.cat([_greatest(scores[:, :_RIVALS]), scores[:, _RIVALS : _RIVALS + 1]], dim=1)
    return torch.cat([scores[:, :1], _greatest(scores[:, 1 : _RIVALS + 1])], dim=1)


def _head_logits(scores: Tensor, level: int) -> Tensor:
    of_heads = scores[:, _RIVALS + 1 :]
    if level == 0:
        return torch.cat([_greatest(of_heads[:, :_RIVALS]), of_heads[:, _RIVALS:]], dim=1)
    return of_heads


def _greatest(scores: Tensor) -> Tensor:
    return scores.max(dim=1, keepdim=True).values


def _rows(x: Tensor, size: Size) -> Tensor:
    """Map (N, values, H, W) to one row per cell: (N, H * W, values); all but the batch axis is a constant."""
    rows, columns = size
    return x.permute(0, 2, 3, 1).reshape(-1, rows * columns, x.shape[1])
