"""A model loaded on an emulated chip: what a session has of the chip, the OM and the engine.

A chip executes one thing at a time, across processes. The diary notes loading, unloading and each run; `run_start` is
written before the wait for the chip, so that two owners of a chip show as overlapping runs. Names, sizes and options of
the Python API are not known here.
"""

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from emulator import diary, om
from emulator.acl_device import (
    EXECUTION_TEXT,
    FAILED,
    GENERAL_FAILURE,
    MEMORY_TEXT,
    NO_CONTEXT,
    LogLevel,
    current_home,
    log,
    open_device,
    print_line,
    strike,
    strike_execution,
)
from emulator.acl_tensors import Array
from emulator.diary import Event
from emulator.engines import Binding, ComputedEngine, Engine, EngineError, TimedEngine, hold
from emulator.fleet import Chip, FaultKind, Fleet, Mode
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


@dataclass(frozen=True, kw_only=True)
class Execution:
    """One execution: its outputs in the model's order, and when it began and ended (seconds of `perf_counter`)."""

    outputs: list[Array]
    begun: float
    ended: float


class LoadedModel:
    """An OM on a chip, from load to unload.

    Args:
        device: number of the device, as this process counts.
        path: of the OM.
        log_level: lines below it are not printed.

    Raises:
        RuntimeError: with the texts of the real runtime; the reason is on stdout.
    """

    def __init__(self, device: int, path: str, log_level: int) -> None:
        self._claim: Claim | None = None
        self._process = os.getpid()
        self._log_level = log_level
        self._home = current_home()
        self._chip = open_device(self._home, device, log_level)
        self._om = _load(self._home, self._chip, path)
        self._label = f"{self._om.name}/{self._om.digest[:8]}"
        self._engine = _engine(self._home.fleet(), self._chip, self._om, path)
        self._claim = _claim_memory(self._home, self._chip, self._om, path)
        self._id = next(_MODEL_IDS)
        log(LogLevel.INFO, log_level, f"load model {path} success")
        log(LogLevel.INFO, log_level, "create model description success")
        self._note(Event.SESSION_OPEN, batch=self.description.batch)

    @property
    def description(self) -> om.OmDescription:
        """Return what the OM says of itself."""
        return self._om.description

    def check_usable(self) -> None:
        """Raise RuntimeError in a forked child, where ACL has no context, and after the model was unloaded."""
        if self._process != os.getpid():
            raise RuntimeError(NO_CONTEXT)
        if self._claim is None:
            print_line("[ERROR] no model had been loaded")
            raise RuntimeError(GENERAL_FAILURE)

    @contextmanager
    def noted_run(self, binding: Binding, loop: int) -> Iterator[None]:
        """Note in the diary what happens inside as one run."""
        more: dict[str, Any] = {"batch": binding.batch, "loop": loop}
        self._note(Event.RUN_START, **more)
        done = False
        try:
            yield
            done = True
        finally:
            self._note(Event.RUN_END, ok=done, **more)

    def execute(self, inputs: Sequence[bytes], binding: Binding) -> Execution:
        """Execute once; raises RuntimeError.

        Args:
            inputs: the bytes of every input, in the model's order.
            binding: their shapes.
        """
        begun = time.perf_counter()
        with self._home.locked(f"chip-{self._chip.logic_id}"):
            strike_execution(self._home, self._chip)
            computing = time.perf_counter()
            outputs = self._compute(inputs, binding)
            slow = strike(self._home, self._chip.logic_id, FaultKind.SLOW)
            if slow is not None:
                hold((time.perf_counter() - computing) * (slow.factor - 1))
        # As on a shared chip, the wait for a neighbour's execution is part of the time.
        return Execution(outputs=outputs, begun=begun, ended=time.perf_counter())

    def refuse(self, reason: str) -> NoReturn:
        """Fail an execution as the runtime does, with a reason on stdout."""
        print_line(reason)
        print_line(f"[ERROR] execute model failed, modelId is {self._id}")
        print_line("[ERROR] acl execute failed:1")
        print_line("[ERROR] Execute Infer failed ret:-1")
        raise RuntimeError(GENERAL_FAILURE) from None  # the real module has no more to say

    def unload(self) -> None:
        """Give the memory back; again is harmless, and a forked child does not unload its parent's."""
        if self._claim is None or self._process != os.getpid():
            return
        self._claim.release()
        self._claim = None
        log(LogLevel.INFO, self._log_level, f"unload model success, model Id is {self._id}")
        self._note(Event.SESSION_CLOSE, batch=self.description.batch)

    def _compute(self, inputs: Sequence[bytes], binding: Binding) -> list[Array]:
        try:
            return self._engine.execute(inputs, binding)
        except EngineError as error:
            self.refuse(EXECUTION_TEXT.format(error=error))

    def _note(self, event: Event, **more: Any) -> None:  # noqa: ANN401 - JSON values
        diary.note(self._home, event, device=self._chip.logic_id, model=self._label, **more)


def _load(home: Home, chip: Chip, path: str) -> om.Om:
    """Read the OM and check that it was compiled for this chip; the exception does not say which of it failed."""
    try:
        model = om.read(Path(path))
    except om.OmError as error:
        print_line(f"[ERROR] {path}: {error}")
        _refuse_model(path)
    if model.description.soc_version != chip.soc_version or strike(home, chip.logic_id, FaultKind.WRONG_SOC):
        print_line(_WRONG_SOC_TEXT)
        _refuse_model(path)
    if strike(home, chip.logic_id, FaultKind.OOM):
        print_line(MEMORY_TEXT.format(pid=os.getpid()))
        _refuse_model(path)
    return model


def _claim_memory(home: Home, chip: Chip, model: om.Om, path: str) -> Claim:
    try:
        return claim(home, chip, _RUNTIME_MEMORY_MB + -(-model.size_bytes // _MEGABYTE))
    except DeviceMemoryError:
        print_line(MEMORY_TEXT.format(pid=os.getpid()))
        _refuse_model(path)


def _engine(fleet: Fleet, chip: Chip, model: om.Om, path: str) -> Engine:
    try:
        if fleet.mode is Mode.TIMED:
            return TimedEngine(model, fleet.service_time, chip.logic_id)
        return ComputedEngine(model)
    except EngineError as error:
        print_line(f"[ERROR] {path}: {error}")
        _refuse_model(path)


def _refuse_model(path: str) -> NoReturn:
    print_line(f"[ERROR] load model from file failed, model file is {path}")
    print_line("[WARN] Check failed:processModel->LoadModelFromFile(modelPath), ret:1\n")
    print_line("[WARN] no model had been loaded, unload failed")
    raise RuntimeError(FAILED) from None  # the real module has no more to say; the reason is on stdout
