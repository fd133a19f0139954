"""The network: ResNet-50, seven stacked NAS-FPN stages, a RetinaNet head with a BatchNorm per level.

Plain torch; modules are named as in mmdetection, so that its checkpoints fit key by key. What follows the raw heads
(boxes, suppression) happens on the host, see `postprocess`.
"""

from typing import Final

from torch import Tensor, nn
from torch.nn import functional

from tasks.recipes.nas_fpn.shapes import ANCHORS_PER_CELL, CLASSES, LEVELS

CHANNELS: Final = 256  #: of every level of the pyramid, and of the head
STAGES: Final = 7
HEAD_CONVOLUTIONS: Final = 4

_EXPANSION: Final = 4  #: channels out of a residual block, per inner channel


class NasFpnRetinaNet(nn.Module):
    """float32 (N, 3, H, W), sides divisible by 128, to ten raw maps: classes of P3 to P7, then deltas of P3 to P7.

    A class map is (N, 9 * 80, H / stride, W / stride), logits; a delta map (N, 9 * 4, ...): dx, dy, dw, dh.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _ResNet50()
        self.neck = _NasFpn()
        self.bbox_head = _RetinaHead()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the ten maps."""
        maps: tuple[Tensor, ...] = self.bbox_head(self.neck(self.backbone(image)))
        return maps


class _ResNet50(nn.Module):
    """To C3, C4 and C5; a block's stride is in its 3x3 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _layer(64, 64, blocks=3, stride=1)
        self.layer2 = _layer(256, 128, blocks=4, stride=2)
        self.layer3 = _layer(512, 256, blocks=6, stride=2)
        self.layer4 = _layer(1024, 512, blocks=3, stride=2)

    def forward(self, image: Tensor) -> list[Tensor]:
        stem = functional.relu(self.bn1(self.conv1(image)))
        c2 = self.layer1(functional.max_pool2d(stem, kernel_size=3, stride=2, padding=1))
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return [c3, c4, self.layer4(c4)]


def _layer(channels: int, inner: int, *, blocks: int, stride: int) -> nn.Sequential:
    rest = (_Bottleneck(_EXPANSION * inner, inner, 1) for _ in range(blocks - 1))
    return nn.Sequential(_Bottleneck(channels, inner, stride), *rest)


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        out = _EXPANSION * inner
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Module = nn.Identity()
        if channels != out or stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, features: Tensor) -> Tensor:
        inner = functional.relu(self.bn1(self.conv1(features)))
        inner = functional.relu(self.bn2(self.conv2(inner)))
        return functional.relu(self.bn3(self.conv3(inner)) + self.downsample(features))


class _NasFpn(nn.Module):
    """C3, C4 and C5 to P3 ... P7, merged seven times over."""

    def __init__(self) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(_named(conv=_pointwise(count), bn=_norm()) for count in (512, 1024, 2048))
        self.extra_downsamples = nn.ModuleList(
            nn.Sequential(_named(conv=_pointwise(CHANNELS), bn=_norm()), nn.MaxPool2d(2, 2)) for _ in range(2)
        )
        self.fpn_stages = nn.ModuleList(_Stage() for _ in range(STAGES))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        levels = [lateral(level) for lateral, level in zip(self.lateral_convs, features, strict=True)]
        for downsample in self.extra_downsamples:
            levels.append(downsample(levels[-1]))
        for stage in self.fpn_stages:
            levels = stage(levels)
        return levels


class _Stage(nn.Module):
    """The cells that architecture search found; a cell's name says its kind, its two inputs' levels and its own."""

    def __init__(self) -> None:
        super().__init__()
        self.gp_64_4 = _PoolingCell((6, 4), 4)
        self.sum_44_4 = _SumCell((4, 4), 4)
        self.sum_43_3 = _SumCell((4, 3), 3)
        self.sum_34_4 = _SumCell((3, 4), 4)
        self.gp_43_5 = _PoolingCell((4, 3), 5, convolved=False)
        self.sum_55_5 = _SumCell((5, 5), 5)
        self.gp_54_7 = _PoolingCell((5, 4), 7, convolved=False)
        self.sum_77_7 = _SumCell((7, 7), 7)
        self.gp_75_6 = _PoolingCell((7, 5), 6)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        old3, old4, old5, old6, old7 = levels
        middle = self.sum_44_4(self.gp_64_4(old6, old4), old4)  # read three times, unlike the P4 made of it
        p3 = self.sum_43_3(middle, old3)
        p4 = self.sum_34_4(p3, middle)
        p5 = self.sum_55_5(old5, self.gp_43_5(p4, p3))
        p7 = self.sum_77_7(old7, self.gp_54_7(p5, middle))
        p6 = self.gp_75_6(p7, p5)
        return [p3, p4, p5, p6, p7]


class _Cell(nn.Module):
    """Brings two maps to the size of a level, merges them, and convolves the sum: activation first, norm last.

    A level has half the side of the one below it. So sizes are known beforehand, and none is computed in the graph.
    """

    def __init__(self, inputs: tuple[int, int], level: int, *, convolved: bool = True) -> None:
        super().__init__()
        self.steps = (level - inputs[0], level - inputs[1])
        self.out_conv: nn.Module = nn.Identity()
        if convolved:
            conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
            self.out_conv = _named(relu=nn.ReLU(), conv=conv, bn=_norm())

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        merged = self.merge(_resized(first, self.steps[0]), _resized(second, self.steps[1]))
        result: Tensor = self.out_conv(merged)
        return result

    def merge(self, first: Tensor, second: Tensor) -> Tensor:
        raise NotImplementedError


class _SumCell(_Cell):
    def merge(self, first: Tensor, second: Tensor) -> Tensor:
        return first + second


class _PoolingCell(_Cell):
    """Adds as much of the first map's channels as the second map's mean tells."""

    def merge(self, first: Tensor, second: Tensor) -> Tensor:
        attention = functional.adaptive_avg_pool2d(second, 1).sigmoid()
        return second + attention * first


class _RetinaHead(nn.Module):
    """The levels share every convolution, and each has its own BatchNorms."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_convs = _tower_of_each_level()
        self.reg_convs = _tower_of_each_level()
        self.retina_cls = nn.Conv2d(CHANNELS, ANCHORS_PER_CELL * CLASSES, 3, padding=1)
        self.retina_reg = nn.Conv2d(CHANNELS, ANCHORS_PER_CELL * 4, 3, padding=1)

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, ...]:
        classes = [self.retina_cls(tower(level)) for tower, level in zip(self.cls_convs, levels, strict=True)]
        deltas = [self.retina_reg(tower(level)) for tower, level in zip(self.reg_convs, levels, strict=True)]
        return (*classes, *deltas)


def _tower_of_each_level() -> nn.ModuleList:
    shared = [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False) for _ in range(HEAD_CONVOLUTIONS)]
    return nn.ModuleList(
        nn.Sequential(*(_named(conv=conv, bn=_norm(), relu=nn.ReLU()) for conv in shared)) for _ in LEVELS
    )


def _named(**modules: nn.Module) -> nn.Sequential:
    """Return modules run in order, whose keys begin with the names given."""
    chain = nn.Sequential()
    for name, module in modules.items():
        chain.add_module(name, module)
    return chain


def _pointwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, CHANNELS, 1, bias=False)


def _norm() -> nn.BatchNorm2d:
    return nn.BatchNorm2d(CHANNELS)


def _resized(features: Tensor, steps: int) -> Tensor:
    """Return a map some levels higher (halved `steps` times, by maximum), or lower (doubled, by repetition)."""
    if steps > 0:
        return functional.max_pool2d(features, kernel_size=2**steps, stride=2**steps)
    if steps < 0:
        return functional.interpolate(features, scale_factor=float(2**-steps), mode="nearest")
    return features
