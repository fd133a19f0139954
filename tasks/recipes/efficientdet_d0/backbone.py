"""EfficientNet-B0 in the form of its TensorFlow weights, without its classifier: three maps of features.

TensorFlow's SAME padding is uneven where the stride is 2. All maps here have even sides (see `network.SIDE_MULTIPLE`),
so the padding depends on the kernel alone.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH_NORM_EPSILON: Final = 1e-3  #: TensorFlow's; torch's own is 1e-5
#: Channels of the maps that `Backbone` returns: levels 3, 4 and 5.
CHANNELS: Final = (40, 112, 320)

_STEM_CHANNELS: Final = 32
_SQUEEZE: Final = 4  #: the squeezed width is the block's input width divided by this


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """Blocks of one kind; `is_level`: its map is among those returned."""

    kernel: int
    stride: int
    expansion: int
    out: int
    blocks: int
    is_level: bool = False


_STAGES: Final = (
    _Stage(kernel=3, stride=1, expansion=1, out=16, blocks=1),
    _Stage(kernel=3, stride=2, expansion=6, out=24, blocks=2),
    _Stage(kernel=5, stride=2, expansion=6, out=40, blocks=2, is_level=True),
    _Stage(kernel=3, stride=2, expansion=6, out=80, blocks=3),
    _Stage(kernel=5, stride=1, expansion=6, out=112, blocks=3, is_level=True),
    _Stage(kernel=5, stride=2, expansion=6, out=192, blocks=4),
    _Stage(kernel=3, stride=1, expansion=6, out=320, blocks=1, is_level=True),
)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return BatchNorm with TensorFlow's epsilon."""
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON)


class SameConv2d(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's SAME does for even sides."""

    def __init__(self, channels: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups, bias=False)
        total = kernel - stride
        before = total // 2
        self._uneven = (before, total - before) * 2 if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, out, H / stride, W / stride)."""
        return super().forward(x if self._uneven is None else functional.pad(x, self._uneven))


class SqueezeExcite(nn.Module):
    """Weighs each channel by what the whole map holds."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, squeezed, 1)
        self.conv_expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map (N, channels, H, W) with its channels weighed."""
        # A mean, not a pooling layer: the mix list of the convert step names ATC's operator for it.
        mean = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.conv_expand(functional.silu(self.conv_reduce(mean))))


class SeparableBlock(nn.Module):
    """The first block: depthwise, squeeze-and-excite, pointwise."""

    def __init__(self, channels: int, stage: _Stage) -> None:
        super().__init__()
        self.conv_dw = SameConv2d(channels, channels, stage.kernel, stride=stage.stride, groups=channels)
        self.bn1 = batch_norm(channels)
        self.se = SqueezeExcite(channels, channels // _SQUEEZE)
        self.conv_pw = nn.Conv2d(channels, stage.out, 1, bias=False)
        self.bn2 = batch_norm(stage.out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, out, H, W)."""
        x = self.se(functional.silu(self.bn1(self.conv_dw(x))))
        out: Tensor = self.bn2(self.conv_pw(x))
        return out


class InvertedResidual(nn.Module):
    """Widen, depthwise, squeeze-and-excite, narrow; added to the input where the shapes agree."""

    def __init__(self, channels: int, stage: _Stage, *, stride: int) -> None:
        super().__init__()
        wide = channels * stage.expansion
        self.conv_pw = nn.Conv2d(channels, wide, 1, bias=False)
        self.bn1 = batch_norm(wide)
        self.conv_dw = SameConv2d(wide, wide, stage.kernel, stride=stride, groups=wide)
        self.bn2 = batch_norm(wide)
        self.se = SqueezeExcite(wide, channels // _SQUEEZE)
        self.conv_pwl = nn.Conv2d(wide, stage.out, 1, bias=False)
        self.bn3 = batch_norm(stage.out)
        self._adds_input = stride == 1 and channels == stage.out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, out, H / stride, W / stride)."""
        inner = functional.silu(self.bn1(self.conv_pw(x)))
        inner = self.se(functional.silu(self.bn2(self.conv_dw(inner))))
        out: Tensor = self.bn3(self.conv_pwl(inner))
        return out + x if self._adds_input else out


class Backbone(nn.Module):
    """The feature extractor; keys as in the published file: `conv_stem`, `bn1`, `blocks.<stage>.<block>`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SameConv2d(3, _STEM_CHANNELS, 3, stride=2)
        self.bn1 = batch_norm(_STEM_CHANNELS)
        stages = []
        channels = _STEM_CHANNELS
        for stage in _STAGES:
            stages.append(_blocks(channels, stage))
            channels = stage.out
        self.blocks = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (N, 3, H, W) to levels 3, 4, 5: (N, 40, H / 8, W / 8), (N, 112, H / 16, ...), (N, 320, H / 32, ...)."""
        x = functional.silu(self.bn1(self.conv_stem(x)))
        levels = []
        for stage, blocks in zip(_STAGES, self.blocks, strict=True):
            x = blocks(x)
            if stage.is_level:
                levels.append(x)
        return levels


def _blocks(channels: int, stage: _Stage) -> nn.Sequential:
    if stage.expansion == 1:
        return nn.Sequential(SeparableBlock(channels, stage))
    first = InvertedResidual(channels, stage, stride=stage.stride)
    return nn.Sequential(first, *(InvertedResidual(stage.out, stage, stride=1) for _ in range(stage.blocks - 1)))
