"""`InferenceSession` on onnxruntime and the CPU: the float32 reference that chips are held against."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from npuq.errors import Blame, ToolError
from tasks.protocols import Array, BoundTensor, RunTimes

_DTYPES: Final = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(bool)": "bool",
}


class OnnxSession:
    """An ONNX model on the CPU. Implements `tasks.protocols.InferenceSession`.

    Args:
        model: the ONNX file.
        batch_size: what a symbolic first axis is bound to; other symbolic axes are refused.
        threads: of one execution.

    Raises:
        ToolError: the model cannot be loaded.
    """

    def __init__(self, model: Path, *, batch_size: int = 1, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(model), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no common public base
            raise ToolError(f"onnxruntime cannot load {model.name}: {error}", code="onnx_load") from error
        self._name = model.name
        self._inputs = tuple(_bind(each, batch_size) for each in self._session.get_inputs())
        self._outputs = tuple(_bind(each, batch_size) for each in self._session.get_outputs())
        self._execute_ms: list[float] = []
        self._runs = 0

    @property
    def inputs(self) -> tuple[BoundTensor, ...]:
        """Return the inputs in model order."""
        return self._inputs

    @property
    def outputs(self) -> tuple[BoundTensor, ...]:
        """Return the outputs in model order."""
        return self._outputs

    def run(self, feeds: Sequence[Array], *, loop: int = 1) -> list[Array]:
        """Execute `loop` times on one batch; see `tasks.protocols.InferenceSession.run`."""
        found = [(feed.shape, feed.dtype, feed.flags.c_contiguous) for feed in feeds]
        wanted = [(each.shape, each.dtype, True) for each in self._inputs]
        if found != wanted:
            raise ToolError(
                f"{self._name} takes (shape, type, contiguous) {wanted}, was given {found}.", code="feed_size"
            )
        names = [output.name for output in self._outputs]
        by_name = {each.name: feed for each, feed in zip(self._inputs, feeds, strict=True)}
        outputs: list[Array] = []
        try:
            for _ in range(loop):
                started = time.perf_counter()
                outputs = self._session.run(names, by_name)
                self._execute_ms.append((time.perf_counter() - started) * 1000)
        except Exception as error:  # as above
            raise ToolError(
                f"onnxruntime cannot execute {self._name}: {error}", code="onnx_run", blame=Blame.INPUT
            ) from error
        self._runs += 1
        return [np.ascontiguousarray(output) for output in outputs]

    def times(self) -> RunTimes:
        """Return the times since the last `reset_times`; there is nothing to copy on a CPU."""
        nothing = (0.0,) * self._runs
        return RunTimes(execute_ms=tuple(self._execute_ms), h2d_ms=nothing, d2h_ms=nothing)

    def reset_times(self) -> None:
        """Forget the times so far."""
        self._execute_ms, self._runs = [], 0

    def close(self) -> None:
        """Unload the model; again is harmless."""
        self._session = None


def _bind(description: Any, batch_size: int) -> BoundTensor:  # noqa: ANN401 - a foreign object
    first, *rest = description.shape
    if not all(isinstance(axis, int) for axis in rest):
        raise ToolError(f"{description.name!r} has other dynamic axes than the batch: {description.shape}")
    shape = (first if isinstance(first, int) else batch_size, *rest)
    return BoundTensor(name=description.name, dtype=np.dtype(_DTYPES[description.type]), shape=shape)
