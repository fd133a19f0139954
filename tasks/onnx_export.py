"""Writes a network as ONNX with the names that its recipe promises.

torch's TorchScript-based exporter is used on purpose: it writes the opset that ATC reads (11), folds BatchNorm, and
gives equal bytes for equal weights; the newer one starts at opset 18.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tasks.protocols import TensorSpec

if TYPE_CHECKING:
    import torch

OPSET: Final = 11
BATCH_AXIS: Final = "N"
#: Any batch larger than one: a batch of one could be traced as a constant.
_TRACED_BATCH_SIZE: Final = 2


def write_onnx(
    network: "torch.nn.Module",
    path: Path,
    *,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    batch_size: int | None,
    open_axes: Mapping[str, Mapping[int, str]] | None = None,
) -> None:
    """Export a network in eval mode.

    Args:
        network: takes the inputs and returns the outputs, in order.
        path: file to write.
        inputs: float32; "N" marks the batch axis.
        outputs: as above.
        batch_size: fixed batch axis; None: a dynamic one, named "N".
        open_axes: tensor -> axis -> name, of further dynamic axes.
    """
    import torch

    example = tuple(torch.zeros(spec.at_batch(batch_size or _TRACED_BATCH_SIZE)) for spec in inputs)
    dynamic = {name: dict(axes) for name, axes in (open_axes or {}).items()}
    if batch_size is None:
        for spec in (*inputs, *outputs):
            dynamic.setdefault(spec.name, {})[spec.shape.index("N")] = BATCH_AXIS
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter announces its successor
        warnings.filterwarnings("ignore", "Constant folding - ", UserWarning)  # it leaves a node in the graph
        torch.onnx.export(
            network,
            example,
            str(path),
            opset_version=OPSET,
            dynamo=False,
            input_names=[spec.name for spec in inputs],
            output_names=[spec.name for spec in outputs],
            dynamic_axes=dynamic or None,
        )
