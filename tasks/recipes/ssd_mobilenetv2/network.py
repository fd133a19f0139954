"""SSD-Lite on MobileNetV2, as qfgaohao/pytorch-ssd builds `mb2-ssd-lite` for testing, in plain torch.

Names and order of the modules are those of the published checkpoint.
"""

from collections.abc import Sequence
from typing import Final, cast

import torch
from torch import nn

from tasks.recipes.ssd_mobilenetv2 import priors

CLASSES: Final = 21  #: the background and 20 kinds of objects

#: MobileNetV2's stages: expansion, channels out, blocks, stride of the first block.
_STAGES: Final = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_LAST_CHANNELS: Final = 1280
#: The first feature map is taken in the middle of this block: after its expansion, before its stride.
_TAPPED_BLOCK: Final = 14
#: The smaller feature maps: channels in, channels out, expansion.
_EXTRAS: Final = ((1280, 512, 0.2), (512, 256, 0.25), (256, 256, 0.5), (256, 64, 0.25))
#: Channels of the six feature maps.
_MAP_CHANNELS: Final = (576, 1280, 512, 256, 256, 64)


class InvertedResidual(nn.Module):
    """A depthwise 3 x 3 convolution between two pointwise ones; the last one is linear.

    Args:
        channels: in.
        out: channels out.
        stride: 1 or 2.
        expansion: of the channels in between; 1 leaves the first pointwise convolution out.
    """

    def __init__(self, channels: int, out: int, *, stride: int, expansion: float) -> None:
        super().__init__()
        hidden = round(channels * expansion)
        expand = [] if expansion == 1 else [*_pointwise(channels, hidden), nn.ReLU6(inplace=True)]
        depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.conv = nn.Sequential(
            *expand, depthwise, nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True), *_pointwise(hidden, out)
        )
        self.adds_input = stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, out, H / stride, W / stride)."""
        out: torch.Tensor = self.conv(x)
        return x + out if self.adds_input else out

    def expanded(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the expansion makes of the input: (N, hidden, H, W)."""
        hidden: torch.Tensor = self.conv[:3](x)
        return hidden

    def finished(self, expanded: torch.Tensor) -> torch.Tensor:
        """Return the block's output from the expansion's; for blocks that do not add their input."""
        out: torch.Tensor = self.conv[3:](expanded)
        return out


class SSDLite(nn.Module):
    """The network: `image` float32 (N, 3, 300, 300) to `scores` (N, 3000, 21) and `boxes` (N, 3000, 4).

    Scores are probabilities over background and classes. Boxes are x1 y1 x2 y2 relative to the image, not clipped.
    """

    priors: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.base_net = _backbone()
        self.extras = nn.ModuleList(
            InvertedResidual(channels, out, stride=2, expansion=expansion) for channels, out, expansion in _EXTRAS
        )
        self.classification_headers = _heads(CLASSES)
        self.regression_headers = _heads(4)
        self.register_buffer("priors", torch.from_numpy(priors.priors()), persistent=False)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores and boxes."""
        logits, locations = self.heads(self.feature_maps(image))
        return torch.softmax(logits, dim=2), self.decode(locations)

    def feature_maps(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the six maps that the heads look at, finest first."""
        x = self.base_net[:_TAPPED_BLOCK](image)
        tapped = cast("InvertedResidual", self.base_net[_TAPPED_BLOCK])
        maps = [tapped.expanded(x)]
        x = self.base_net[_TAPPED_BLOCK + 1 :](tapped.finished(maps[0]))
        maps.append(x)
        for extra in self.extras:
            x = extra(x)
            maps.append(x)
        return maps

    def heads(self, maps: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (N, 3000, 21) and locations (N, 3000, 4), in the order of the priors."""
        logits, locations = (
            torch.cat(
                [_rows(head(x), level, numbers) for head, x, level in zip(heads, maps, priors.LEVELS, strict=True)],
                dim=1,
            )
            for heads, numbers in ((self.classification_headers, CLASSES), (self.regression_headers, 4))
        )
        return logits, locations

    def decode(self, locations: torch.Tensor) -> torch.Tensor:
        """Return corners from corrections of the priors: (N, 3000, 4) both."""
        centres = locations[..., :2] * priors.CENTRE_VARIANCE * self.priors[:, 2:] + self.priors[:, :2]
        halves = torch.exp(locations[..., 2:] * priors.SIZE_VARIANCE) * self.priors[:, 2:] / 2
        return torch.cat([centres - halves, centres + halves], dim=2)


def _backbone() -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6(inplace=True))
    ]
    channels = 32
    for expansion, out, blocks, stride in _STAGES:
        for block in range(blocks):
            step = stride if block == 0 else 1
            layers.append(InvertedResidual(channels, out, stride=step, expansion=expansion))
            channels = out
    layers.append(nn.Sequential(*_pointwise(channels, _LAST_CHANNELS), nn.ReLU6(inplace=True)))
    return nn.Sequential(*layers)


def _pointwise(channels: int, out: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out)


def _heads(numbers: int) -> nn.ModuleList:
    """Return one head per feature map, each with so many numbers for every prior of a cell."""
    out = priors.PRIORS_PER_CELL * numbers
    *separable, last = _MAP_CHANNELS
    return nn.ModuleList([*(_separable(channels, out) for channels in separable), nn.Conv2d(last, out, 1)])


def _separable(channels: int, out: int) -> nn.Sequential:
    """Return a depthwise and a pointwise convolution; the former has a bias although BatchNorm follows."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        nn.BatchNorm2d(channels),
        nn.ReLU6(),
        nn.Conv2d(channels, out, 1),
    )


def _rows(x: torch.Tensor, level: priors.Level, numbers: int) -> torch.Tensor:
    """Return a head's map (N, 6 * numbers, H, W) as one row per prior: (N, H * W * 6, numbers).

    All but the batch axis is a constant, so that the exported graph computes no shapes.
    """
    return x.permute(0, 2, 3, 1).reshape(-1, level.priors, numbers)
