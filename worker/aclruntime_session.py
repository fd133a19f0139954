"""`InferenceSession` on `aclruntime`, the Python module that comes with CANN's tools; both generations of its API.

Only this module knows that API. The runtime's exceptions say little and its stdout says much, so whoever opens a
session brings a way to read what was printed. Static batch sizes only.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from npuq.errors import NpuqError, ToolError, ToolMissingError
from tasks.ascend_errors import runtime_error
from tasks.protocols import Array, BoundTensor, RunTimes

ReadOutput = Callable[[], str]

#: Name in `aclruntime.dtype` -> numpy dtype.
_DTYPES: Final[Mapping[str, str]] = {
    "float32": "float32",
    "float16": "float16",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "double": "float64",
    "bool": "bool",
}


class AclRuntime:
    """The module and one chip of it. It is initialised by the first model that is loaded.

    Args:
        logic_id: of the chip.
        read_output: returns what this process printed since the last call.

    Raises:
        ToolMissingError: there is no `aclruntime` for this Python.
    """

    def __init__(self, logic_id: int, read_output: ReadOutput) -> None:
        try:
            self._module: Any = import_module("aclruntime")
        except ImportError as error:
            raise ToolMissingError(
                f"The Python module `aclruntime` cannot be imported here: {error}. It comes with CANN's tools and not "
                "from PyPI: install the wheel for this Python version, or put its folder on PYTHONPATH; without a "
                "card, start an emulated fleet."
            ) from error
        self._logic_id = logic_id
        self.read_output = read_output
        self._opened = False

    def open(self, model: Path) -> "AclSession":
        """Load an OM; raises NpuqError, classified."""
        try:
            session = self._module.InferenceSession(str(model), self._logic_id, self._module.session_options())
        except RuntimeError as error:
            raise self.failure(error, f"loading {model.name}") from error
        self._opened = True
        return AclSession(self, self._module, session, self._logic_id, model.name)

    def failure(self, error: Exception, doing: str) -> NpuqError:
        """Return the classified form of what the runtime raised."""
        return runtime_error(error, self.read_output(), doing)

    def finalize(self) -> None:
        """Reset the chip; the process must not use it afterwards. Every session is closed before."""
        finalize = getattr(self._module.InferenceSession, "finalize", None)
        if self._opened and finalize is not None:
            with contextlib.suppress(TypeError):  # of the instance in the older generation, whose end resets as well
                finalize()


class AclSession:
    """A model on a chip. Implements `tasks.protocols.InferenceSession`; made by `AclRuntime.open`."""

    def __init__(self, runtime: AclRuntime, module: Any, session: Any, logic_id: int, name: str) -> None:  # noqa: ANN401 - foreign objects without types
        self._runtime = runtime
        self._module = module
        self._session = session
        self._logic_id = logic_id
        self._name = name
        # Copied at once: the descriptions live in the model's own memory.
        self._inputs = tuple(self._bind(description) for description in session.get_inputs())
        self._outputs = tuple(self._bind(description) for description in session.get_outputs())
        self._sizes = tuple(int(description.realsize) for description in session.get_inputs())
        self._execute_ms: list[float] = []
        self._h2d_ms: list[float] = []
        self._d2h_ms: list[float] = []

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
        self._check(feeds)
        self._session.options().loop = loop
        self._reset_summary()
        try:
            tensors, h2d_ms = self._to_device(feeds)
            outputs = self._session.run([output.name for output in self._outputs], tensors)
            execute_ms = self._execution_times()
            arrays, d2h_ms = self._to_host(outputs)
        except RuntimeError as error:
            raise self._runtime.failure(error, f"executing {self._name}") from error
        self._execute_ms += execute_ms
        self._h2d_ms.append(h2d_ms)
        self._d2h_ms.append(d2h_ms)
        return arrays

    def times(self) -> RunTimes:
        """Return the times since the last `reset_times`; copies are timed around the whole batch."""
        return RunTimes(execute_ms=tuple(self._execute_ms), h2d_ms=tuple(self._h2d_ms), d2h_ms=tuple(self._d2h_ms))

    def reset_times(self) -> None:
        """Forget the times so far."""
        self._execute_ms, self._h2d_ms, self._d2h_ms = [], [], []

    def close(self) -> None:
        """Unload the model; again is harmless."""
        session, self._session = self._session, None
        if session is not None and hasattr(session, "free_resource"):
            session.free_resource()  # the older generation frees with the last reference

    def _bind(self, description: Any) -> BoundTensor:  # noqa: ANN401 - a foreign object
        shape = tuple(int(axis) for axis in description.shape)
        if min(shape, default=1) < 1:
            raise ToolError(
                f"{self._name} has a dynamic shape {shape} at {description.name!r}; npuq runs static batch sizes. "
                "Convert it with a batch size.",
                code="om_dynamic",
            )
        for name, dtype in _DTYPES.items():
            if getattr(self._module.dtype, name, None) == description.datatype:
                return BoundTensor(name=str(description.name), dtype=np.dtype(dtype), shape=shape)
        raise ToolError(f"{self._name} has elements of unknown type {description.datatype} at {description.name!r}.")

    def _check(self, feeds: Sequence[Array]) -> None:
        """Refuse what the runtime would take for something else: it counts bytes, and ignores strides and types."""
        found = [(feed.shape, feed.dtype, feed.nbytes) for feed in feeds]
        wanted = [(each.shape, each.dtype, size) for each, size in zip(self._inputs, self._sizes, strict=True)]
        if found != wanted:
            raise ToolError(f"{self._name} takes (shape, type, bytes) {wanted}, was given {found}.", code="feed_size")
        if not all(feed.flags.c_contiguous for feed in feeds):
            raise ToolError(f"{self._name} was given an array that is not contiguous.", code="feed_size")

    def _to_device(self, feeds: Sequence[Array]) -> tuple[list[Any], float]:
        # int64 is spelled "q" or "l", and only "l" is known to the runtime
        tensors = [self._module.Tensor(feed.view("l") if feed.dtype == np.int64 else feed) for feed in feeds]
        started = time.perf_counter()
        for tensor in tensors:
            tensor.to_device(self._logic_id)
        return tensors, (time.perf_counter() - started) * 1000

    def _to_host(self, tensors: Sequence[Any]) -> tuple[list[Array], float]:
        started = time.perf_counter()
        for tensor in tensors:
            tensor.to_host()
        milliseconds = (time.perf_counter() - started) * 1000
        arrays = [
            np.array(tensor).view(output.dtype).reshape(output.shape)
            for tensor, output in zip(tensors, self._outputs, strict=True)
        ]
        return arrays, milliseconds

    def _execution_times(self) -> list[float]:
        """Return the times of the last run in ms: floats in one generation, (start, end) pairs in the other."""
        summary = self._session.summary() if hasattr(self._session, "summary") else self._session.sumary()
        return [
            float(entry) if isinstance(entry, (int, float)) else float(entry[1]) - float(entry[0])
            for entry in summary.exec_time_list
        ]

    def _reset_summary(self) -> None:
        if hasattr(self._session, "reset_summaryinfo"):
            self._session.reset_summaryinfo()
        else:
            self._session.reset_sumaryinfo()
