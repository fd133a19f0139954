"""`InferenceSession` on onnxruntime and the CPU: the float32 reference that chips are held against."""

import time
from collections.abc import Sequence
from dataclasses import replace
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
    "tensor(int16)": "int16",
    "tensor(uint64)": "uint64",
    "tensor(uint32)": "uint32",
    "tensor(uint16)": "uint16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(bool)": "bool",
}


class OnnxSession:
    """An ONNX model on the CPU. Implements `tasks.protocols.InferenceSession`.

    Args:
        model: the ONNX file.
        batch_size: what a symbolic first axis is bound to; with other symbolic axes, shapes are to be bound.
        threads: of one execution.

    Raises:
        ToolError: the model cannot be loaded.
    """

    def __init__(self, model: Path, *, batch_size: int = 1, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the cores are shared
        options.inter_op_num_threads = 1
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(model), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no common public base
            raise ToolError(f"onnxruntime cannot load {model.name}: {error}", code="onnx_load") from error
        self._name = model.name
        self._compiled = tuple(_described(each) for each in self._session.get_inputs())
        self._inputs = tuple(_at_batch(each, batch_size) for each in self._compiled)
        self._outputs = tuple(_at_batch(_described(each), batch_size) for each in self._session.get_outputs())
        self._execute_ms: list[float] = []
        self._runs = 0

    @property
    def compiled_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of the inputs in the file, -1 where `bind` decides."""
        return tuple(each.shape for each in self._compiled)

    @property
    def inputs(self) -> tuple[BoundTensor, ...]:
        """Return the inputs in model order."""
        return self._inputs

    @property
    def outputs(self) -> tuple[BoundTensor, ...]:
        """Return the outputs in model order; of a dynamic model as of the last run."""
        return self._outputs

    def bind(self, shapes: Sequence[tuple[int, ...]], *, output_bytes: Sequence[int] = ()) -> None:  # noqa: ARG002 - memory is no matter on a CPU
        """Fix the shapes of the runs that follow; see `tasks.protocols.InferenceSession.bind`."""
        wanted = [tuple(shape) for shape in shapes]
        if len(wanted) != len(self._compiled) or not all(map(_fits, wanted, self.compiled_shapes)):
            raise ToolError(
                f"{self._name} takes inputs of {list(self.compiled_shapes)}, where -1 is any size; not of {wanted}.",
                code="shape_unknown",
            )
        self._inputs = tuple(replace(each, shape=shape) for each, shape in zip(self._compiled, wanted, strict=True))

    def run(self, feeds: Sequence[Array], *, loop: int = 1) -> list[Array]:
        """Execute `loop` times on one batch; see `tasks.protocols.InferenceSession.run`."""
        if any(-1 in each.shape for each in self._inputs):
            raise ToolError(f"{self._name} takes {self.compiled_shapes}: bind its shapes first.", code="shape_unbound")
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
        arrays = [np.ascontiguousarray(output).reshape(output.shape) for output in outputs]
        self._outputs = tuple(
            replace(output, shape=array.shape) for output, array in zip(self._outputs, arrays, strict=True)
        )
        return arrays

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


def _described(description: Any) -> BoundTensor:  # noqa: ANN401 - a foreign object
    shape = tuple(axis if isinstance(axis, int) else -1 for axis in description.shape)
    return BoundTensor(name=description.name, dtype=np.dtype(_DTYPES[description.type]), shape=shape)


def _at_batch(tensor: BoundTensor, batch_size: int) -> BoundTensor:
    first, *rest = tensor.shape or (1,)
    return tensor if first != -1 or -1 in rest else replace(tensor, shape=(batch_size, *rest))


def _fits(wanted: tuple[int, ...], compiled: tuple[int, ...]) -> bool:
    return len(wanted) == len(compiled) and all(
        size > 0 and known in (-1, size) for size, known in zip(wanted, compiled, strict=True)
    )
