"""What executes an OM: onnxruntime, or a clock."""

import ctypes
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from emulator.fleet import ServiceTime
from emulator.om import Om

Array = NDArray[Any]

#: Calls through PyDLL keep the GIL, as the real binding does while the chip computes.
_LIBC: Final = ctypes.PyDLL(None)
_LONGEST_SLEEP_SECONDS: Final = 0.5
_MUTEX_BYTES: Final = 64


class EngineError(Exception):
    """The model cannot be built or executed."""


@dataclass(frozen=True, kw_only=True)
class Binding:
    """The shapes of one execution.

    Attributes:
        inputs: in the model's order, no dimension open.
        outputs: as `inputs`; None where only the execution tells.
    """

    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...] | None

    @property
    def batch(self) -> int:
        """Return the first dimension of the first input, 1 where there is none."""
        return self.inputs[0][0] if self.inputs and self.inputs[0] else 1


class Engine(Protocol):
    """Executes one model."""

    def execute(self, inputs: Sequence[bytes], binding: Binding) -> list[Array]:
        """Return the outputs; raises EngineError.

        Args:
            inputs: raw bytes, in the model's order.
            binding: the shapes of this execution, which must fit the bytes.
        """


class ComputedEngine:
    """onnxruntime with one thread, as a chip works on one thing at a time; raises EngineError when it refuses."""

    def __init__(self, om: Om) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(om.onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no base class of their own
            raise EngineError(str(error)) from error
        self._inputs = om.description.inputs
        self._outputs = [output.name for output in om.description.outputs]

    def execute(self, inputs: Sequence[bytes], binding: Binding) -> list[Array]:
        """Compute the outputs."""
        try:
            feeds = {
                info.name: np.frombuffer(data, info.dtype).reshape(shape)
                for info, data, shape in zip(self._inputs, inputs, binding.inputs, strict=True)
            }
            outputs: list[Array] = self._session.run(self._outputs, feeds)
        except Exception as error:  # as above
            raise EngineError(str(error)) from error
        return outputs


class TimedEngine:
    """Waits the modelled service time and answers zeros. The wait is the behaviour, not a way to wait for something.

    Raises:
        EngineError: the OM is of dynamic shape without gears: its outputs' shapes are not known without computing.
    """

    def __init__(self, om: Om, model: ServiceTime, logic_id: int) -> None:
        outputs = om.description.outputs
        if not om.description.gears and any(-1 in output.shape for output in outputs):
            raise EngineError("timed mode cannot execute dynamic shapes without gears")
        self._dtypes = [output.dtype for output in outputs]
        self._model = model
        self._random = random.Random(f"{model.seed}/{logic_id}/{om.digest}")  # noqa: S311 - a model, not a secret

    def execute(self, inputs: Sequence[bytes], binding: Binding) -> list[Array]:  # noqa: ARG002 - nothing is computed
        """Wait, and return zeros of the right shapes."""
        if binding.outputs is None:
            raise EngineError("timed mode cannot execute dynamic shapes")
        jitter = self._model.jitter
        deviation = self._random.uniform(-jitter, jitter) if jitter else 0.0
        hold(self._model.mean_seconds(binding.batch) * (1 + deviation))
        return [np.zeros(shape, dtype) for shape, dtype in zip(binding.outputs, self._dtypes, strict=True)]


def hold(seconds: float) -> None:
    """Wait without letting another Python thread run."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        _LIBC.usleep(int(min(left, _LONGEST_SLEEP_SECONDS) * 1e6) + 1)


def hang() -> None:
    """Never return, and let neither Python threads nor Python signal handlers run: a mutex locked twice."""
    mutex = ctypes.create_string_buffer(_MUTEX_BYTES)  # zeros are an initialised, non-recursive mutex
    while True:
        _LIBC.pthread_mutex_lock(mutex)
