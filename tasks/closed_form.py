"""Fits a detector's last layers in closed form, for weights that are made and not trained: ridge regression."""

from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from torch import Tensor, nn

_LEAST_DEVIATION: Final = 1e-3  # added, so that a constant feature divides by no zero


def standardise(features: "Tensor") -> tuple["Tensor", "Tensor", "Tensor"]:
    """Return rows with mean 0 and deviation 1 and a last column of ones, float32 (N, F + 1); mean and deviation (F,).

    Args:
        features: float32 (N, F), what the layer sees, one row per cell.
    """
    import torch

    mean, deviation = features.mean(dim=0), features.std(dim=0) + _LEAST_DEVIATION
    return torch.cat([(features - mean) / deviation, torch.ones(len(features), 1)], dim=1), mean, deviation


def ridge(gram: "Tensor", products: "Tensor", strength: float) -> "Tensor":
    """Return float64 (F + 1, outputs): the weights with the least squared error plus `strength` times their squares.

    Args:
        gram: float64 (F + 1, F + 1), of the rows with themselves.
        products: float64 (F + 1, outputs), of the rows with what they should give.
        strength: of the penalty.
    """
    import torch

    weights: Tensor = torch.linalg.solve(gram + strength * torch.eye(len(gram), dtype=gram.dtype), products)
    return weights


def write(layer: "nn.Conv2d", weights: "Tensor", mean: "Tensor", deviation: "Tensor") -> None:
    """Write weights for standardised features, float64 (outputs, F + 1), as weights for the features themselves.

    They go to the middle taps of the first F input channels; all others become zero.
    """
    import torch

    scaled = weights[:, :-1] / deviation
    row, column = (size // 2 for size in layer.kernel_size)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, : scaled.shape[1], row, column] = scaled.float()
        cast("Tensor", layer.bias).copy_((weights[:, -1] - scaled @ mean.double()).float())
