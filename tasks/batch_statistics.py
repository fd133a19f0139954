"""Gives BatchNorm the statistics of some pictures, for weights that are made and not trained."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def take(network: "torch.nn.Module", inputs: Any) -> None:  # noqa: ANN401 - whatever the network takes
    """Set each BatchNorm's statistics to those of its inputs, which come from layers already normalised.

    Args:
        network: changed in place, in eval mode afterwards.
        inputs: its one argument; a batch that stands for all pictures.
    """
    import torch
    from torch import nn

    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 1.0  # take this batch's statistics whole
    network.train()
    with torch.no_grad():
        network(inputs)
    network.eval()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
