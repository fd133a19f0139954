"""The process that owns a chip: keeps the runtime and the last models loaded between jobs, feeders beside it.

It addresses the chip by its logic id and by nothing else. After an error that is the chip's, or the loss of a feeder,
it takes no further attempt: what a broken context would compute next is not worth knowing.
"""

import os
import signal
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from npuq.errors import Blame, DeviceBusyError, ErrorInfo, NpuqError
from npuq.states import JobKind
from tasks.idleness import ChipState
from tasks.protocols import FeederPool, InferenceSession
from tasks.steps import DeviceRef, StepRequest
from worker.aclruntime_session import AclRuntime, AclSession
from worker.child_protocol import ChildSettings
from worker.chip_watch import chip_state
from worker.feeder_process import FeederSettings
from worker.feeders import ProcessFeederPool
from worker.host_process import ReportProgress
from worker.npu_smi_tool import NpuSmi

MAX_LOADED_MODELS: Final = 8


class LoadedModels:
    """The models on the chip, by digest, the least recently used first.

    Args:
        logic_id: of the chip.
    """

    def __init__(self, logic_id: int) -> None:
        self._logic_id = logic_id
        self._runtime: AclRuntime | None = None
        self._sessions: OrderedDict[str, AclSession] = OrderedDict()
        self._blame_others: Callable[[NpuqError], None] = lambda _error: None

    @property
    def digests(self) -> tuple[str, ...]:
        """Return what is loaded, most recently used last."""
        return tuple(self._sessions)

    def get(
        self,
        digest: str,
        model: Path,
        read_output: Callable[[], str],
        blame_others: Callable[[NpuqError], None],
        *,
        sharp_clock: bool = False,
    ) -> AclSession:
        """Return a session, loading the model if need be; when memory is short, everything else goes first.

        Args:
            digest: of the model.
            model: its file.
            read_output: see `AclRuntime`.
            blame_others: told that the model does not fit with nothing else of ours loaded; may raise a better error.
            sharp_clock: load a model whose clock has become coarse anew.

        Raises:
            NpuqError: classified.
        """
        self._blame_others = blame_others
        if self._runtime is None:
            self._runtime = AclRuntime(self._logic_id, read_output, self._make_room)
        self._runtime.read_output = read_output
        session = self._sessions.get(digest)
        if session is not None and sharp_clock and session.clock_is_coarse:
            self._sessions.pop(digest).close()
            session = None
        if session is None:
            self._unload(MAX_LOADED_MODELS - 1)
            session = self._sessions[digest] = self._runtime.open(model)
        self._sessions.move_to_end(digest)
        return session

    def close(self) -> None:
        """Unload everything and let go of the chip."""
        self._unload(0)
        if self._runtime is not None:
            self._runtime.finalize()

    def _make_room(self, session: AclSession | None, error: NpuqError) -> bool:
        """Unload all but the session that needs the memory; returns whether there was anything to unload."""
        others = [digest for digest, each in self._sessions.items() if each is not session]
        for digest in others:
            self._sessions.pop(digest).close()
        if not others:
            self._blame_others(error)
        return bool(others)

    def _unload(self, keep: int) -> None:
        while len(self._sessions) > keep:
            _, session = self._sessions.popitem(last=False)
            session.close()


@dataclass(frozen=True, kw_only=True)
class DeviceContext:
    """The `StepContext` of a step on a chip."""

    request: StepRequest
    report: ReportProgress
    read_output: Callable[[], str]
    models: LoadedModels
    pool: ProcessFeederPool
    npu_smi: NpuSmi
    device: DeviceRef

    def progress(self, done: int, total: int, unit: str) -> None:
        """Pass on how far the step is."""
        self.report(done, total, unit)

    def session(self, model: Path) -> InferenceSession:
        """Return the session of an input of this request.

        Raises:
            DeviceBusyError: there is no memory for it, and somebody else is on the chip; its executions raise it, too.
            NpuqError: classified.
            KeyError: the file is no input of this request.
        """
        digests = {
            path: digest
            for role, paths in self.request.inputs.items()
            for path, digest in zip(paths, self.request.input_digests[role], strict=True)
        }
        measured = self.request.kind is JobKind.BENCHMARK
        return self.models.get(digests[model], model, self.read_output, self._blame_strangers, sharp_clock=measured)

    def feeders(self) -> FeederPool:
        """Return the feeders beside this chip."""
        return self.pool

    def chip_state(self, friends: frozenset[int] = frozenset()) -> ChipState:
        """Return what `npu-smi` says about this chip now."""
        # The request's device knows what was learned of it since this process began.
        return chip_state(self.npu_smi.info(), self.request.device or self.device, friends)

    def _blame_strangers(self, error: NpuqError) -> None:
        """Raise DeviceBusyError if the model might have fitted an empty chip; return if it was empty, or is unknown."""
        try:
            state = self.chip_state()
        except NpuqError:
            return
        beside = list(state.foreign_processes)
        if state.leaked_memory_mib:
            beside.append(f"{state.leaked_memory_mib} MiB that no process holds")
        if beside:
            raise DeviceBusyError(
                f"The model does not fit the chip beside {', '.join(beside)}; it is tried again later.",
                detail=error.info.detail,
            ) from error


class DeviceProcess:
    """What a child does around the steps when it owns a chip."""

    def __init__(self, settings: ChildSettings, device: DeviceRef) -> None:
        signal.signal(signal.SIGTERM, _leave)
        self._device = device
        self._broken = False
        self._models = LoadedModels(device.logic_id)
        self._npu_smi = NpuSmi(
            lock_path=settings.npu_smi_lock, timeout_seconds=settings.tool_timeout_seconds, cache_seconds=0
        )
        self._pool = ProcessFeederPool(
            FeederSettings(
                count=max(1, settings.feeders),
                sample_cache=settings.sample_cache,
                sample_cache_bytes=settings.sample_cache_bytes,
                lock_fd=settings.lock_fd,
            )
        )

    @property
    def loaded(self) -> tuple[str, ...]:
        """Return the digests of models kept loaded, most recently used last."""
        return self._models.digests

    @property
    def fit(self) -> bool:
        """Return whether it can take another attempt."""
        return self._pool.fit and not self._broken

    def context(self, request: StepRequest, report: ReportProgress, read_output: Callable[[], str]) -> DeviceContext:
        """Return what a step may use; the runtime's own logs go to the attempt's folder."""
        os.environ["ASCEND_PROCESS_LOG_PATH"] = str(request.workdir / "ascend_log")
        return DeviceContext(
            request=request,
            report=report,
            read_output=read_output,
            models=self._models,
            pool=self._pool,
            npu_smi=self._npu_smi,
            device=self._device,
        )

    def note_failure(self, error: ErrorInfo) -> None:
        """Take no further attempt after an error of the chip itself; that somebody else is on it is none."""
        self._broken |= error.blame is Blame.DEVICE and error.code != DeviceBusyError.code

    def close(self) -> None:
        """Let go of chip and feeders."""
        self._models.close()
        self._pool.close()


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Unwind, so that the chip is let go of properly; a second TERM must not interrupt that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + signal.SIGTERM)
