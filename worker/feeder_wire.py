"""Frames between a feeder pool and a feeder: a JSON message, arrays as plain bytes, and at most one descriptor.

Nothing is unpickled: a feeder decodes files that strangers uploaded, so what it says is data and never code.
"""

import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np

from tasks.protocols import Array, ClassScores, Detections, Prediction

_HEADER: Final = struct.Struct("<IQ")
_MAX_MESSAGE_BYTES: Final = 64 * 2**20
_MAX_ARRAY_BYTES: Final = 4 * 2**30


class FrameKind(StrEnum):
    """What a frame is about."""

    ORDER = "order"  #: to the feeder: a new order and its ring of samples
    OUTPUTS = "outputs"  #: to the feeder: the memory in which the chip's outputs will lie
    PREPARE = "prepare"  #: to the feeder: put these samples into their rows
    POSTPROCESS = "postprocess"  #: to the feeder: make predictions of a batch's outputs
    FORGET = "forget"  #: to the feeder: the order is over, let go of its memory
    PREPARED = "prepared"  #: from the feeder
    POSTPROCESSED = "postprocessed"  #: from the feeder
    FAILED = "failed"  #: from the feeder: an error instead of either


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One message.

    Attributes:
        message: JSON values; `kind` says which.
        arrays: what came with it.
        descriptor: of shared memory, now owned by the receiver.
    """

    message: dict[str, Any]
    arrays: tuple[Array, ...] = ()
    descriptor: int | None = None


def send_frame(channel: socket.socket, frame: Frame) -> None:
    """Send a frame; the descriptor stays the sender's. Raises OSError."""
    arrays = [np.ascontiguousarray(array) for array in frame.arrays]
    described = [{"dtype": array.dtype.str, "shape": array.shape} for array in arrays]
    text = json.dumps(frame.message | {"arrays": described}).encode()
    header = _HEADER.pack(len(text), sum(array.nbytes for array in arrays))
    if frame.descriptor is None:
        channel.sendall(header)
    else:
        socket.send_fds(channel, [header], [frame.descriptor])
    channel.sendall(text)
    for array in arrays:
        channel.sendall(array.reshape(-1).view(np.uint8).data)


def receive_frame(channel: socket.socket) -> Frame:
    """Wait for a frame.

    Raises:
        EOFError: the other side is gone, or sent nonsense.
        OSError: the connection broke, or the socket's own time limit is over.
    """
    header, descriptors, _, _ = socket.recv_fds(channel, _HEADER.size, 1)
    if not header:
        raise EOFError("the other side is gone")
    header += _receive_exactly(channel, _HEADER.size - len(header))
    text_bytes, array_bytes = _HEADER.unpack(header)
    if text_bytes > _MAX_MESSAGE_BYTES or array_bytes > _MAX_ARRAY_BYTES:
        raise EOFError("a frame beyond all bounds")
    message = json.loads(_receive_exactly(channel, text_bytes))
    data = _receive_exactly(channel, array_bytes)
    arrays, offset = [], 0
    for described in message.pop("arrays"):
        dtype, shape = np.dtype(described["dtype"]), tuple(described["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        arrays.append(np.frombuffer(data, dtype, count, offset).reshape(shape))
        offset += count * dtype.itemsize
    return Frame(message=message, arrays=tuple(arrays), descriptor=descriptors[0] if descriptors else None)


def _receive_exactly(channel: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = channel.recv_into(view)
        if count == 0:
            raise EOFError("the other side went away within a frame")
        view = view[count:]
    return data


def pack_predictions(predictions: Sequence[Prediction]) -> tuple[list[str], tuple[Array, ...]]:
    """Return the kinds and the arrays of predictions, for a frame."""
    kinds: list[str] = []
    arrays: list[Array] = []
    for prediction in predictions:
        if isinstance(prediction, Detections):
            kinds.append("detections")
            arrays += [prediction.boxes, prediction.scores, prediction.labels]
        else:
            kinds.append("scores")
            arrays.append(prediction.scores)
    return kinds, tuple(arrays)


def unpack_predictions(kinds: Sequence[str], arrays: Sequence[Array]) -> list[Prediction]:
    """Return the predictions that `pack_predictions` packed."""
    rest = iter(arrays)
    return [
        Detections(boxes=next(rest), scores=next(rest), labels=next(rest))
        if kind == "detections"
        else ClassScores(scores=next(rest))
        for kind in kinds
    ]
