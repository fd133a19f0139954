"""The process that works on the host: export, convert, evaluate. One attempt, then it is gone; it owns no chip."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from npuq.errors import ErrorInfo
from tasks.steps import StepRequest
from tasks.torch_threads import MAX_THREADS

if TYPE_CHECKING:
    from tasks.idleness import ChipState
    from tasks.protocols import FeederPool, InferenceSession

ReportProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class HostContext:
    """The `StepContext` of a host step."""

    request: StepRequest
    report: ReportProgress

    def progress(self, done: int, total: int, unit: str) -> None:
        """Pass on how far the step is."""
        self.report(done, total, unit)

    def session(self, model: Path) -> "InferenceSession":
        """Return a session of a reference's ONNX on the CPU; raises ToolError when it cannot be loaded.

        Other steps have nothing to load here: RuntimeError.
        """
        if not self.request.params.get("reference"):
            raise RuntimeError(f"{self.request.kind} runs on no chip and cannot load {model.name}")
        from worker.onnx_session import OnnxSession

        return OnnxSession(model, batch_size=self.request.params["batch_size"], threads=MAX_THREADS)

    def feeders(self) -> "FeederPool":
        """Refuse: feeders stand beside chips; raises RuntimeError."""
        raise RuntimeError(f"{self.request.kind} runs on no chip and has no feeders")

    def chip_state(self, friends: frozenset[int] = frozenset()) -> "ChipState":  # noqa: ARG002 - there is no chip
        """Refuse: there is no chip here; raises RuntimeError."""
        raise RuntimeError(f"{self.request.kind} runs on no chip")


class HostProcess:
    """What a child does around the steps when it owns no chip."""

    def __init__(self) -> None:
        signal.signal(signal.SIGTERM, _end_own_group)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Return the digests of models kept loaded: none."""
        return ()

    @property
    def fit(self) -> bool:
        """Return whether it can take another attempt."""
        return True

    def context(self, request: StepRequest, report: ReportProgress, read_output: Callable[[], str]) -> HostContext:  # noqa: ARG002 - tools of host steps are heard directly
        """Return what a step may use."""
        return HostContext(request, report)

    def note_failure(self, error: ErrorInfo) -> None:
        """Nothing outlives an attempt here."""

    def close(self) -> None:
        """Nothing outlives an attempt here."""


def _end_own_group(_signal: int, _frame: FrameType | None) -> NoReturn:
    """End this process and the tools it started at once: there is nothing to tidy up."""
    os.killpg(os.getpid(), signal.SIGKILL)
    raise SystemExit(128 + signal.SIGTERM)
