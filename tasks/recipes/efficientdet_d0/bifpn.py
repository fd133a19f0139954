"""BiFPN: five levels of features, each cell passing them down the pyramid and up again with learned weights."""

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.recipes.efficientdet_d0 import backbone

WIDTH: Final = 64  #: channels of every level
LEVELS: Final = 5  #: 3 to 7
CELLS: Final = 3

_EPSILON: Final = 1e-4  #: in the normalisation of the weights

#: The nodes of a cell: level (0 is the finest), and what it combines. 0 to 4 are the cell's inputs, 5 and up its nodes.
_NODES: Final[tuple[tuple[int, tuple[int, ...]], ...]] = (
    (3, (3, 4)),
    (2, (2, 5)),
    (1, (1, 6)),
    (0, (0, 7)),
    (1, (1, 7, 8)),
    (2, (2, 6, 9)),
    (3, (3, 5, 10)),
    (4, (4, 11)),
)


class ConvBn(nn.Module):
    """A pointwise convolution with bias, and BatchNorm."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 1)
        self.bn = backbone.batch_norm(out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, out, H, W)."""
        out: Tensor = self.bn(self.conv(x))
        return out


class SeparableConv(nn.Module):
    """A depthwise 3 x 3 convolution, a pointwise one with bias, and BatchNorm where asked for."""

    def __init__(self, channels: int, out: int, *, norm: bool = False) -> None:
        super().__init__()
        self.conv_dw = backbone.SameConv2d(channels, channels, 3, groups=channels)
        self.conv_pw = nn.Conv2d(channels, out, 1)
        self.bn = backbone.batch_norm(out) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, out, H, W)."""
        out: Tensor = self.bn(self.conv_pw(self.conv_dw(x)))
        return out


def pool(x: Tensor) -> Tensor:
    """Halve a map (N, C, H, W) with even sides: the maximum of 3 x 3 cells; what lies beyond its border never wins."""
    return functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), value=-math.inf), 3, 2)


class Resample(nn.Module):
    """Brings a map to the width of the pyramid, then to the level of a node.

    Args:
        channels: of the map.
        levels_up: 1 halves the map, -1 doubles it, 0 keeps its size.
    """

    def __init__(self, channels: int, levels_up: int) -> None:
        super().__init__()
        self.conv = ConvBn(channels, WIDTH) if channels != WIDTH else nn.Identity()
        self._levels_up = levels_up

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, 64, H', W')."""
        out: Tensor = self.conv(x)
        if self._levels_up > 0:
            out = pool(out)
        elif self._levels_up < 0:
            out = functional.interpolate(out, scale_factor=2.0, mode="nearest")
        return out


class Combine(nn.Module):
    """Adds maps with weights that are never negative and sum to one, but for an epsilon."""

    def __init__(self, resample: dict[int, Resample]) -> None:
        super().__init__()
        self.edge_weights = nn.Parameter(torch.ones(len(resample)))
        self.resample = nn.ModuleDict({str(source): layer for source, layer in resample.items()})
        self._sources = tuple(resample)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the weighted sum, at this node's level, of its sources among `maps`."""
        weights = functional.relu(self.edge_weights)
        shares = weights / (weights.sum() + _EPSILON)
        resampled = [self.resample[str(source)](maps[source]) for source in self._sources]
        total: Tensor = resampled[0] * shares[0]
        for number, other in enumerate(resampled[1:], start=1):
            total = total + other * shares[number]
        return total


class Node(nn.Module):
    """One node of a cell: combine, activate, convolve."""

    def __init__(self, resample: dict[int, Resample]) -> None:
        super().__init__()
        self.combine = Combine(resample)
        self.after_combine = nn.ModuleDict({"conv": SeparableConv(WIDTH, WIDTH, norm=True)})

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return this node's map (N, 64, H, W)."""
        out: Tensor = self.after_combine["conv"](functional.silu(self.combine(maps)))
        return out


class Cell(nn.Module):
    """Eight nodes, first from the coarsest level down, then up again.

    Args:
        channels: of the five inputs.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        widths = [*channels, *(WIDTH for _ in _NODES)]
        levels = [*range(LEVELS), *(level for level, _ in _NODES)]
        self.fnode = nn.ModuleList(
            Node({source: Resample(widths[source], level - levels[source]) for source in sources})
            for level, sources in _NODES
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map the five levels to five levels of 64 channels."""
        known = list(maps)
        for node in self.fnode:
            known.append(node(known))
        return known[-LEVELS:]


class BiFpn(nn.Module):
    """Adds levels 6 and 7 to the backbone's three, then three cells; keys `resample.3` and `cell.<number>`."""

    def __init__(self) -> None:
        super().__init__()
        self.resample = nn.ModuleDict({"3": Resample(backbone.CHANNELS[-1], 1), "4": Resample(WIDTH, 1)})
        widths = [(*backbone.CHANNELS, WIDTH, WIDTH)] + [(WIDTH,) * LEVELS] * (CELLS - 1)
        self.cell = nn.ModuleList(Cell(channels) for channels in widths)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Map levels 3 to 5 of the backbone to levels 3 to 7, each of 64 channels."""
        maps = list(levels)
        for layer in self.resample.values():
            maps.append(layer(maps[-1]))
        for cell in self.cell:
            maps = cell(maps)
        return maps
