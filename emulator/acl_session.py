"""`InferenceSession` of the emulated `aclruntime`: loads an OM on a chip and executes it there.

A chip executes one thing at a time, across processes. Static shapes only. The diary notes each session and each `run`;
`run_start` is written before the wait for the chip, so that two owners of a chip show as overlapping runs.
"""

import itertools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np

from emulator import diary, om
from emulator.acl_device import (
    EXECUTION_TEXT,
    GENERAL_FAILURE,
    INVALID_PARAMETER,
    LOAD_FAILED,
    MEMORY_TEXT,
    NO_CONTEXT,
    LogLevel,
    current_home,
    log,
    open_device,
    print_line,
    reset_devices,
    strike,
    strike_execution,
)
from emulator.acl_tensors import Array, BaseTensor, DType, Tensor
from emulator.diary import Event
from emulator.engines import ComputedEngine, Engine, EngineError, TimedEngine, hold
from emulator.fleet import Api, Chip, FaultKind, Fleet, Mode
from emulator.home import Home
from emulator.occupancy import Claim, DeviceMemoryError, claim

_RUNTIME_MEMORY_MB: Final = 96  # what a loaded model takes beside its weights
_MEGABYTE: Final = 2**20
_MODEL_IDS: Final = itertools.count(1)
_WRONG_SOC_TEXT: Final = """\
E19999: Inner Error!
E19999 index:0 > stream_list.size(): 0, check invalid[FUNC:SetStream][FILE:task_info.cc][LINE:26]
        TraceBack (most recent call last):
[Model][FromData]load model from data failed, ge result[-][FUNC:ReportCallError][FILE:log_inner.cpp][LINE:161]"""


class SessionOptions:
    """Options of a session; `loop` may be changed through `session.options()`."""

    def __init__(self) -> None:
        self.loop = 1
        self.log_level = int(LogLevel.INFO)
        self.acl_json_path = ""


@dataclass(kw_only=True)
class TensorDescription:
    """An input or output of a model; `size` and `realsize` in bytes, equal for static shapes."""

    name: str
    datatype: DType
    format: int
    shape: list[int]
    realsize: int
    size: int


class Summary:
    """Device times of the executions since the last reset: ms, or (start, end) pairs of ms since the session began."""

    def __init__(self, exec_time_list: list[float] | list[tuple[float, float]]) -> None:
        self.exec_time_list = exec_time_list


def _describe(info: om.TensorInfo) -> TensorDescription:
    size = int(np.prod(info.shape, dtype=np.int64)) * np.dtype(info.dtype).itemsize
    return TensorDescription(
        name=info.name,
        datatype=DType.of_numpy(info.dtype),
        format=info.format,
        shape=list(info.shape),
        realsize=size,
        size=size,
    )


class InferenceSession:
    """A model on a chip. All arguments are positional and required, as with the real one."""

    def __init__(self, model_path: str, device_id: int, options: SessionOptions, /) -> None:
        self._options = options
        self._device = device_id
        self._claim: Claim | None = None
        self._process = os.getpid()
        self._home = current_home()
        self._chip = open_device(self._home, device_id, options.log_level)
        self._om = _load(self._home, self._chip, model_path)
        self._label = f"{self._om.name}/{self._om.digest[:8]}"
        self._engine = _engine(self._home.fleet(), self._chip, self._om, model_path)
        self._claim = _claim_memory(self._home, self._chip, self._om, model_path)
        self._model_id = next(_MODEL_IDS)
        self._inputs = [_describe(info) for info in self._om.description.inputs]
        self._outputs = [_describe(info) for info in self._om.description.outputs]
        self._zero = time.perf_counter()
        self._times: list[tuple[float, float]] = []
        log(LogLevel.INFO, options.log_level, f"load model {model_path} success")
        log(LogLevel.INFO, options.log_level, "create model description success")
        diary.note(self._home, Event.SESSION_OPEN, device=self._chip.logic_id, model=self._label, batch=self._batch)

    @property
    def _batch(self) -> int:
        return self._om.description.batch

    def get_inputs(self) -> list[TensorDescription]:
        """Return the inputs in the model's order."""
        return self._inputs

    def get_outputs(self) -> list[TensorDescription]:
        """Return the outputs in the model's order."""
        return self._outputs

    def options(self) -> SessionOptions:
        """Return the live options: what is changed there counts for the next run."""
        return self._options

    def set_staticbatch(self) -> None:
        """Set every realsize to its size."""
        for description in (*self._inputs, *self._outputs):
            description.realsize = description.size

    def sumary(self) -> Summary:
        """Return the times of all executions since the last reset, in the form of the fleet's API generation."""
        if self._home.fleet().api is Api.FLOATS:
            return Summary([end - start for start, end in self._times])
        return Summary(list(self._times))

    def reset_sumaryinfo(self) -> None:
        """Forget the times."""
        self._times.clear()

    def run(
        self, output_names: list[str], feeds: Sequence[Tensor | BaseTensor] | Mapping[str, Tensor], /
    ) -> list[Tensor]:
        """Execute `loop` times and return the outputs on the device, in the order of `output_names`.

        Args:
            output_names: which outputs.
            feeds: tensors on the device, in the model's order or by name; or BaseTensors, which are copied.

        Raises:
            RuntimeError: with the texts of the real runtime; the reason is on stdout.
        """
        names = [description.name for description in self._outputs]
        if not set(output_names) <= set(names) or len(set(output_names)) != len(output_names):
            raise RuntimeError(INVALID_PARAMETER)
        inputs = self._input_bytes(feeds)
        noted: dict[str, Any] = {
            "device": self._chip.logic_id,
            "model": self._label,
            "batch": self._batch,
            "loop": self._options.loop,
        }
        diary.note(self._home, Event.RUN_START, **noted)
        done = False
        try:
            outputs = self._loop(inputs)
            done = True
        finally:
            diary.note(self._home, Event.RUN_END, ok=done, **noted)
        by_name = dict(zip(names, outputs, strict=True))
        return [Tensor(by_name[name]).placed(self._device) for name in output_names]

    def _loop(self, inputs: list[bytes]) -> list[Array]:
        outputs: list[Array] = []
        loops = max(1, self._options.loop)
        for index in range(loops):
            if loops > 1:
                os.write(1, f"\rloop inference exec: ({index + 1}/{loops})".encode())
            outputs = self._execute(inputs)
        return outputs

    def _execute(self, inputs: list[bytes]) -> list[Array]:
        begun = time.perf_counter()
        with self._home.locked(f"chip-{self._chip.logic_id}"):
            strike_execution(self._home, self._chip)
            computing = time.perf_counter()
            outputs = self._compute(inputs)
            slow = strike(self._home, self._chip.logic_id, FaultKind.SLOW)
            if slow is not None:
                hold((time.perf_counter() - computing) * (slow.factor - 1))
        # As on a shared chip, the wait for a neighbour's execution is part of the time.
        self._times.append(((begun - self._zero) * 1000, (time.perf_counter() - self._zero) * 1000))
        return outputs

    def _compute(self, inputs: list[bytes]) -> list[Array]:
        try:
            return self._engine.execute(inputs)
        except EngineError as error:
            print_line(EXECUTION_TEXT.format(error=error))
            raise RuntimeError(GENERAL_FAILURE) from None  # as in `_refuse_model`

    def _input_bytes(self, feeds: Sequence[Tensor | BaseTensor] | Mapping[str, Tensor]) -> list[bytes]:
        """Return the bytes of every input; only their number is checked, neither dtype nor shape."""
        if self._process != os.getpid():
            # ACL does not survive a fork: the child has no context.
            raise RuntimeError(NO_CONTEXT)
        if self._claim is None:
            self._refuse("no model had been loaded")
        inputs = []
        for index, (feed, wanted) in enumerate(zip(self._in_order(feeds), self._inputs, strict=True)):
            data = feed.copy_bytes() if isinstance(feed, BaseTensor) else feed.device_bytes()
            if data is None:
                self._refuse(f"input i:{index} name:{wanted.name} is not on the device")
            if len(data) != wanted.realsize:
                sizes = f"in size:{len(data)} needsize:{wanted.realsize}"
                print_line(f"Check i:{index} name:{wanted.name} {sizes} not match")
                raise RuntimeError(GENERAL_FAILURE)
            inputs.append(data)
        return inputs

    def _in_order(self, feeds: Sequence[Tensor | BaseTensor] | Mapping[str, Tensor]) -> Sequence[Tensor | BaseTensor]:
        """Return the feeds in the model's order."""
        if isinstance(feeds, Mapping):
            if feeds.keys() != {description.name for description in self._inputs}:
                self._refuse("the names of the inputs do not match")
            return [feeds[description.name] for description in self._inputs]
        if len(feeds) != len(self._inputs):
            self._refuse(f"input num:{len(feeds)} need:{len(self._inputs)} not match")
        return feeds

    def _refuse(self, reason: str) -> NoReturn:
        print_line(f"[ERROR] {reason}")
        raise RuntimeError(GENERAL_FAILURE)

    def free_resource(self) -> None:
        """Unload the model; again is harmless, and a forked child does not unload its parent's."""
        if self._claim is None or self._process != os.getpid():
            return
        self._claim.release()
        self._claim = None
        log(LogLevel.INFO, self._options.log_level, f"unload model success, model Id is {self._model_id}")
        diary.note(self._home, Event.SESSION_CLOSE, device=self._chip.logic_id, model=self._label, batch=self._batch)

    @staticmethod
    def finalize() -> None:
        """Reset the devices; callable on the class and on a session, as both generations of the API do."""
        reset_devices()

    def __del__(self) -> None:
        # A constructor that raised leaves an object without a claim, or without the attribute at all.
        if getattr(self, "_claim", None) is not None:
            self.free_resource()

    def __str__(self) -> str:
        lines = ["<Model>", f"device:\t{self._device}"]
        for title, descriptions in (("input", self._inputs), ("output", self._outputs)):
            lines.append(f"{title}:")
            lines += [
                f"  #{index}    {each.name}  ({', '.join(str(size) for size in each.shape)})  {each.datatype.text}"
                f"  {each.size}  {each.realsize}"
                for index, each in enumerate(descriptions)
            ]
        return "\n".join(lines)

    __repr__ = __str__


def _load(home: Home, chip: Chip, model_path: str) -> om.Om:
    """Read the OM and check that it was compiled for this chip; the exception does not say which of it failed."""
    try:
        model = om.read(Path(model_path))
    except om.OmError as error:
        print_line(f"[ERROR] {model_path}: {error}")
        _refuse_model(model_path)
    if model.description.soc_version != chip.soc_version or strike(home, chip.logic_id, FaultKind.WRONG_SOC):
        print_line(_WRONG_SOC_TEXT)
        _refuse_model(model_path)
    if strike(home, chip.logic_id, FaultKind.OOM):
        print_line(MEMORY_TEXT.format(pid=os.getpid()))
        _refuse_model(model_path)
    return model


def _claim_memory(home: Home, chip: Chip, model: om.Om, model_path: str) -> Claim:
    try:
        return claim(home, chip, _RUNTIME_MEMORY_MB + -(-model.size_bytes // _MEGABYTE))
    except DeviceMemoryError:
        print_line(MEMORY_TEXT.format(pid=os.getpid()))
        _refuse_model(model_path)


def _engine(fleet: Fleet, chip: Chip, model: om.Om, model_path: str) -> Engine:
    if fleet.mode is Mode.TIMED:
        return TimedEngine(model, fleet.service_time, chip.logic_id)
    try:
        return ComputedEngine(model)
    except EngineError as error:
        print_line(f"[ERROR] {model_path}: {error}")
        _refuse_model(model_path)


def _refuse_model(model_path: str) -> NoReturn:
    print_line(f"[ERROR] load model from file failed, model file is {model_path}")
    print_line("[WARN] Check failed:processModel->LoadModelFromFile(modelPath), ret:1")
    print_line("[WARN] no model had been loaded, unload failed")
    raise RuntimeError(LOAD_FAILED) from None  # the real module has no more to say; the reason is on stdout
