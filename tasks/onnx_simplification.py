"""Makes an exported graph plain: no arithmetic over shapes that are known, no padding apart from what can pad itself.

onnxslim folds constants, and the padding of convolutions into them. It leaves the padding of maximum pools alone, where
minus infinity means just what a pool's own padding means: that is done here.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

from npuq.errors import ToolMissingError

if TYPE_CHECKING:
    import onnx

_IMAGE_RANK: Final = len("NCHW")


def simplify(path: Path) -> None:
    """Simplify an ONNX file in place; equal files stay equal.

    Args:
        path: a model of opset 11 or later.

    Raises:
        ToolMissingError: onnxslim is not installed.
    """
    import onnx

    try:
        import onnxslim
    except ImportError as error:
        raise ToolMissingError(
            f"This host cannot simplify ONNX: {error}. Install npuq with its extras: pip install 'npuq[worker,export]'."
        ) from error
    model = onnxslim.slim(onnx.load(path))
    fold_pads_into_max_pools(model.graph)
    onnx.save(model, path)


def fold_pads_into_max_pools(graph: "onnx.GraphProto") -> int:
    """Give maximum pools the padding with minus infinity that lies before them.

    Padding with other values stays, and so does padding of batch or channels, or of what others read too.

    Args:
        graph: of opset 11 or later, its constants as initializers; changed in place.

    Returns:
        How many were folded.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    reads = [name for node in graph.node for name in node.input] + [output.name for output in graph.output]
    pads = {node.output[0]: node for node in graph.node if node.op_type == "Pad"}
    folded = [
        (pool, pads[pool.input[0]])
        for pool in graph.node
        if pool.op_type == "MaxPool" and pool.input[0] in pads and reads.count(pool.input[0]) == 1
    ]
    folded = [(pool, pad) for pool, pad in folded if _move(pad, pool, constants)]
    for pool, pad in folded:
        pool.input[0] = pad.input[0]
        graph.node.remove(pad)
    _drop_unread(graph)
    return len(folded)


def _move(pad: "onnx.NodeProto", pool: "onnx.NodeProto", constants: "dict[str, onnx.TensorProto]") -> bool:
    """Add a pad's widths to those of a pool; returns False, and changes nothing, where that is not the same."""
    import numpy as np
    from onnx import helper, numpy_helper

    attributes = {item.name: helper.get_attribute_value(item) for item in (*pad.attribute, *pool.attribute)}
    if attributes.get("mode", b"constant") != b"constant" or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        return False
    if any(name not in constants for name in pad.input[1:3]) or len(pad.input) != len(("data", "pads", "value")):
        return False
    widths, value = (numpy_helper.to_array(constants[name]) for name in pad.input[1:3])
    begin, end = np.split(widths, 2)
    if len(begin) != _IMAGE_RANK or float(value) != -math.inf or widths.min() < 0 or begin[:2].any() or end[:2].any():
        return False
    own = np.array(attributes.get("pads", [0, 0, 0, 0]), dtype=np.int64)
    total = own + np.concatenate([begin[2:], end[2:]])
    # A pool may pad by less than its kernel only: a window must never lie in the padding alone.
    if (total >= np.tile(attributes["kernel_shape"], 2)).any():
        return False
    for item in [item for item in pool.attribute if item.name == "pads"]:
        pool.attribute.remove(item)
    pool.attribute.append(helper.make_attribute("pads", total.tolist()))
    return True


def _drop_unread(graph: "onnx.GraphProto") -> None:
    read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
