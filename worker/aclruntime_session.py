"""`InferenceSession` on `aclruntime`, the Python module that comes with CANN's tools; both generations of its API.

Only this module knows that API. The runtime's exceptions say little and its stdout says much, so whoever opens a
session brings a way to read what was printed.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from npuq.errors import NpuqError, ToolError, ToolMissingError
from tasks.ascend_errors import OUT_OF_MEMORY, runtime_error
from tasks.protocols import Array, BoundTensor, RunTimes
from worker.aclruntime_gears import OpenInput, Shape, choose

ReadOutput = Callable[[], str]
MakeRoom = Callable[["AclSession | None", NpuqError], bool]

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
#: Until then a step of the runtime's clock is less than a microsecond.
_SHARP_SECONDS: Final = 8.0


class AclRuntime:
    """The module and one chip of it. It is initialised by the first model that is loaded.

    Args:
        logic_id: of the chip.
        read_output: returns what this process printed since the last call.
        make_room: called when the chip's memory was too short to load a model (None) or to execute a session, with the
            error; returns whether there is more now, so that another try is worth it.

    Raises:
        ToolMissingError: there is no `aclruntime` for this Python.
    """

    def __init__(
        self, logic_id: int, read_output: ReadOutput, make_room: MakeRoom = lambda _session, _error: False
    ) -> None:
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
        self._make_room = make_room
        self._opened = False

    def open(self, model: Path) -> "AclSession":
        """Load an OM; raises NpuqError, classified."""
        while True:
            try:
                return AclSession(self, model)
            except NpuqError as error:
                if not self.has_made_room(None, error):
                    raise

    def has_made_room(self, session: "AclSession | None", error: NpuqError) -> bool:
        """Return whether what failed (a load: None) may fit the chip's memory now."""
        return error.info.code == OUT_OF_MEMORY and self._make_room(session, error)

    @property
    def module(self) -> Any:  # noqa: ANN401 - a foreign module
        """Return `aclruntime`."""
        return self._module

    @property
    def logic_id(self) -> int:
        """Return the chip's logic id."""
        return self._logic_id

    def load(self, model: Path) -> Any:  # noqa: ANN401 - a foreign object
        """Return a session of the module; raises NpuqError, classified."""
        try:
            session = self._module.InferenceSession(str(model), self._logic_id, self._module.session_options())
        except RuntimeError as error:
            raise self.failure(error, f"loading {model.name}") from error
        self._opened = True
        return session

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
    """A model on a chip. Implements `tasks.protocols.InferenceSession`; made by `AclRuntime.open`.

    Args:
        runtime: of the chip.
        model: the OM.

    Raises:
        NpuqError: classified.
    """

    def __init__(self, runtime: AclRuntime, model: Path) -> None:
        self._runtime = runtime
        self._module = runtime.module
        self._name = model.name
        self._session = runtime.load(model)
        self._loaded_at = time.monotonic()
        # Copied at once: the descriptions live in the model's own memory.
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._compiled = tuple(self._described(each) for each in inputs)
        self._inputs = self._compiled
        self._sizes = tuple(int(each.realsize) for each in inputs)
        self._outputs = tuple(self._described(each) for each in outputs)
        self._outputs_sized = all(int(each.size) > 0 and min(each.shape, default=1) >= 0 for each in outputs)
        self._execute_ms: list[float] = []
        self._h2d_ms: list[float] = []
        self._d2h_ms: list[float] = []

    @property
    def compiled_shapes(self) -> tuple[Shape, ...]:
        """Return the shapes of the inputs as compiled, -1 where `bind` decides."""
        return tuple(each.shape for each in self._compiled)

    @property
    def inputs(self) -> tuple[BoundTensor, ...]:
        """Return the inputs in model order."""
        return self._inputs

    @property
    def outputs(self) -> tuple[BoundTensor, ...]:
        """Return the outputs in model order; of a dynamic model as of the last run, before it of the largest gear."""
        return self._outputs

    def bind(self, shapes: Sequence[Shape], *, output_bytes: Sequence[int] = ()) -> None:
        """Fix the shapes of the runs that follow; see `tasks.protocols.InferenceSession.bind`."""
        inputs = [
            OpenInput(name=each.name, compiled=each.shape, wanted=tuple(shape))
            for each, shape in zip(self._compiled, shapes, strict=False)
        ]
        if len(shapes) != len(self._compiled) or not all(each.fits for each in inputs):
            raise self._shape_unknown(shapes)
        if not self._outputs_sized and len(output_bytes) != len(self._outputs):
            raise ToolError(
                f"{self._name} does not say how large its {len(self._outputs)} outputs become: give the bytes of each.",
                code="output_size_unknown",
            )
        self._choose(inputs, output_bytes)

    def run(self, feeds: Sequence[Array], *, loop: int = 1) -> list[Array]:
        """Execute `loop` times on one batch; see `tasks.protocols.InferenceSession.run`."""
        self._check(feeds)
        while True:
            try:
                return self._execute(feeds, loop)
            except NpuqError as error:
                if not self._runtime.has_made_room(self, error):
                    raise

    def _execute(self, feeds: Sequence[Array], loop: int) -> list[Array]:
        self._session.options().loop = loop
        self._reset_summary()
        try:
            tensors, h2d_ms = self._to_device(feeds)
            outputs = self._session.run([output.name for output in self._outputs], tensors)
            execute_ms = self._execution_times()
            arrays, d2h_ms = self._to_host(outputs)
        except RuntimeError as error:
            raise self._runtime.failure(error, f"executing {self._name}") from error
        self._outputs = tuple(
            replace(output, shape=array.shape) for output, array in zip(self._outputs, arrays, strict=True)
        )
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

    @property
    def clock_is_coarse(self) -> bool:
        """Return whether a measurement should begin with a model that is loaded anew.

        The runtime counts milliseconds since the load in single precision: after a minute they come in steps of
        4 microseconds, after an hour of a quarter of a millisecond.
        """
        return time.monotonic() - self._loaded_at > _SHARP_SECONDS

    def close(self) -> None:
        """Unload the model; again is harmless."""
        session, self._session = self._session, None
        if session is not None and hasattr(session, "free_resource"):
            session.free_resource()  # the older generation frees with the last reference

    def _choose(self, inputs: Sequence[OpenInput], output_bytes: Sequence[int]) -> None:
        """Tell the session what comes, and believe the sizes that it then asks for."""
        try:
            if any(each.open_axes for each in inputs):
                choose(self._session, inputs, outputs_sized=self._outputs_sized)
            self._session.set_custom_outsize(list(output_bytes))
        except RuntimeError as error:
            raise self._shape_unknown([each.wanted for each in inputs]) from error
        bound = tuple(replace(each, shape=open_.wanted) for each, open_ in zip(self._compiled, inputs, strict=True))
        sizes = tuple(int(each.realsize) for each in self._session.get_inputs())
        if any(-1 in each.shape for each in self._compiled) and sizes != tuple(_bytes_of(each) for each in bound):
            raise self._shape_unknown([each.wanted for each in inputs])
        self._inputs, self._sizes = bound, sizes

    def _shape_unknown(self, shapes: Sequence[Shape]) -> ToolError:
        compiled = [each.shape for each in self._compiled]
        return ToolError(
            f"{self._name} was not compiled for inputs of {list(shapes)}: it takes {compiled}, where -1 is one of the "
            "sizes that were given to ATC.",
            code="shape_unknown",
            detail=self._runtime.read_output(),
        )

    def _described(self, description: Any) -> BoundTensor:  # noqa: ANN401 - a foreign object
        shape = tuple(int(axis) for axis in description.shape)
        for name, dtype in _DTYPES.items():
            if getattr(self._module.dtype, name, None) == description.datatype:
                return BoundTensor(name=str(description.name), dtype=np.dtype(dtype), shape=shape)
        raise ToolError(f"{self._name} has elements of unknown type {description.datatype} at {description.name!r}.")

    def _check(self, feeds: Sequence[Array]) -> None:
        """Refuse what the runtime would take for something else: it counts bytes, and ignores strides and types."""
        if any(-1 in each.shape for each in self._inputs):
            raise ToolError(f"{self._name} takes {self.compiled_shapes}: bind its shapes first.", code="shape_unbound")
        found = [(feed.shape, feed.dtype, feed.nbytes) for feed in feeds]
        wanted = [(each.shape, each.dtype, size) for each, size in zip(self._inputs, self._sizes, strict=True)]
        if found != wanted:
            raise ToolError(f"{self._name} takes (shape, type, bytes) {wanted}, was given {found}.", code="feed_size")
        if not all(feed.flags.c_contiguous for feed in feeds):
            raise ToolError(f"{self._name} was given an array that is not contiguous.", code="feed_size")

    def _to_device(self, feeds: Sequence[Array]) -> tuple[list[Any], float]:
        # 64-bit integers are spelled in two ways, "q" and "l", and the runtime knows only that of the type's own name
        tensors = [self._module.Tensor(feed.view(np.dtype(feed.dtype.name))) for feed in feeds]
        started = time.perf_counter()
        for tensor in tensors:
            tensor.to_device(self._runtime.logic_id)
        return tensors, (time.perf_counter() - started) * 1000

    def _to_host(self, tensors: Sequence[Any]) -> tuple[list[Array], float]:
        started = time.perf_counter()
        for tensor in tensors:
            tensor.to_host()
        milliseconds = (time.perf_counter() - started) * 1000
        arrays = [
            np.array(tensor).view(output.dtype).reshape(tensor.shape)
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


def _bytes_of(tensor: BoundTensor) -> int:
    return prod(tensor.shape) * tensor.dtype.itemsize
