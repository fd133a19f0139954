"""A worker's handle on a child process: start it, have it run attempts, end it and everything it started.

It never waits without a limit, and whatever becomes of the child, `run` returns a value. The database, Celery and the
chip are other modules' business.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from npuq.errors import Blame, ChildLostError, ErrorInfo, StepTimeoutError
from tasks.steps import DeviceRef, StepOutcome, StepRequest
from worker.attempt_log import LogSink
from worker.child_losses import describe_loss
from worker.child_output import ChildOutput
from worker.child_protocol import STEP_FUNCTIONS, ChildSettings, MessageType, Progress
from worker.interpreter import job_environment, program_command
from worker.json_lines import ChannelClosedError, JsonLines
from worker.process_keeper import ProcessKeeper, Program

TIMEOUT_GRACE_SECONDS: Final = 3.0
_OUTPUT_WAIT_SECONDS: Final = 5.0
_CLOSE_WAIT_SECONDS: Final = 1.0
_EXIT_WAIT_SECONDS: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class ChildConfig:
    """How a child is set up; see `ChildSettings`.

    Attributes:
        env: surroundings to choose the child's environment from; only what `job_environment` allows reaches it.
        npu_smi_lock: None: beside the sample cache.
    """

    name: str
    device: DeviceRef | None
    lock_fd: int | None
    env: Mapping[str, str]
    feeders: int
    sample_cache: Path
    sample_cache_bytes: int
    tool_timeout_seconds: float
    npu_smi_lock: Path | None = None
    steps: Mapping[str, str] = field(default_factory=lambda: STEP_FUNCTIONS)

    def settings(self) -> ChildSettings:
        """Return what the child itself is told."""
        return ChildSettings(
            name=self.name,
            device=self.device,
            lock_fd=self.lock_fd,
            feeders=self.feeders,
            sample_cache=self.sample_cache,
            sample_cache_bytes=self.sample_cache_bytes,
            tool_timeout_seconds=self.tool_timeout_seconds,
            npu_smi_lock=self.npu_smi_lock or self.sample_cache.parent / "npu-smi.lock",
            steps=self.steps,
        )


class EndResult(StrEnum):
    """What became of a child that was ended."""

    GONE = "gone"  #: every process of it
    UNKILLABLE = "unkillable"  #: something survives KILL, for example in a driver call: its chip must not be used


@dataclass(frozen=True)
class _Live:
    """The parts of a started child."""

    keeper: ProcessKeeper
    output: ChildOutput
    channel: JsonLines


class Child:
    """One child process. `run` belongs to one thread at a time; `end`, `alive` and the rest to any."""

    def __init__(self, config: ChildConfig) -> None:
        self._config = config
        self._live: _Live | None = None
        self._running = threading.Lock()
        self._ended = threading.Event()
        self._leaving = False
        self._loaded: tuple[str, ...] = ()

    def start(self) -> None:
        """Start a fresh interpreter in a session of its own; it begins to listen by itself.

        Raises:
            ChildLostError: the system cannot start a process.
            RuntimeError: it was started before.
        """
        if self._live is not None:
            raise RuntimeError(f"{self._config.name} was started before")
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        with theirs:
            try:
                keeper = ProcessKeeper(self._program(theirs.fileno(), writing))
                keeper.start()
            except OSError as error:
                os.close(reading)
                ours.close()
                raise ChildLostError(f"{self._config.name} cannot be started: {error}.") from error
            finally:
                os.close(writing)
        self._live = _Live(keeper, ChildOutput(self._config.name, reading), JsonLines(ours))
        if self._ended.is_set():  # by another thread, which found nothing to end yet
            keeper.end(0.0)

    @property
    def pid(self) -> int:
        """Return its process id, also the id of its group and session; 0 before the start."""
        return 0 if self._live is None else self._live.keeper.pid

    @property
    def alive(self) -> bool:
        """Return whether it can take an attempt: started, not ended, not leaving by itself."""
        return self._live is not None and not self._ended.is_set() and not self._leaving and self._live.keeper.running

    @property
    def loaded(self) -> tuple[str, ...]:
        """Return the digests of the models that it keeps loaded, as of its last answer; most recent last."""
        return self._loaded if self.alive else ()

    def run(
        self,
        request: StepRequest,
        log: LogSink,
        on_progress: Callable[[Progress], None],
        timeout_seconds: float,
    ) -> StepOutcome | ErrorInfo:
        """Have one attempt run, and wait for it.

        When it returns, everything the attempt printed is in `log`. A child that is lost or too slow is ended before
        the return; it then has to be replaced (`alive` is False).

        Args:
            request: the attempt; paths are absolute.
            log: where its output goes, from another thread.
            on_progress: called in this thread; must not raise.
            timeout_seconds: longest run.

        Raises:
            RuntimeError: it was not started, or is running another attempt.
        """
        if self._live is None or not self._running.acquire(blocking=False):
            raise RuntimeError(f"{self._config.name} was not started, or is busy")
        try:
            self._live.output.attach(log)
            return self._run(self._live, request, on_progress, timeout_seconds)
        finally:
            self._live.output.detach()
            self._running.release()

    def end(self, grace_seconds: float) -> EndResult:
        """End every process of it: TERM, `grace_seconds`, KILL; a blocked `run` returns. Safe from any thread."""
        self._ended.set()
        if self._live is None:
            return EndResult.GONE
        gone = self._live.keeper.end(grace_seconds)
        self._live.channel.close()
        return EndResult.GONE if gone else EndResult.UNKILLABLE

    def _program(self, control_fd: int, output: int) -> Program:
        arguments = {
            "--control-fd": str(control_fd),
            "--parent-pid": str(os.getpid()),
            "--settings": json.dumps(self._config.settings().to_json()),
        }
        lock = () if self._config.lock_fd is None else (self._config.lock_fd,)
        return Program(
            name=self._config.name,
            command=program_command("worker.child_main") + [text for pair in arguments.items() for text in pair],
            environment=job_environment(self._config.env),
            pass_fds=(control_fd, *lock),
            output=output,
        )

    def _run(
        self, live: _Live, request: StepRequest, on_progress: Callable[[Progress], None], timeout_seconds: float
    ) -> StepOutcome | ErrorInfo:
        deadline = time.monotonic() + timeout_seconds
        marker = f"npuq-end-{uuid.uuid4().hex}"
        try:
            live.channel.send({"type": MessageType.RUN, "request": request.to_json(), "marker": marker})
            answer = self._answer(live, on_progress, deadline)
            live.output.wait_for_marker(marker, _OUTPUT_WAIT_SECONDS)
            return self._result(answer)
        except TimeoutError:
            self.end(TIMEOUT_GRACE_SECONDS)
            return StepTimeoutError(
                f"The step ran longer than {timeout_seconds:g} s and was ended. If it needs more, raise "
                "job_timeout_seconds; if it hung, look at the chip.",
                blame=Blame.HOST if self._config.device is None else Blame.DEVICE,
                detail=live.output.tail(),
            ).info
        except (ChannelClosedError, KeyError, TypeError, ValueError) as error:
            return self._lost(live, str(error))

    def _answer(self, live: _Live, on_progress: Callable[[Progress], None], deadline: float) -> dict[str, Any]:
        """Listen until the attempt is over."""
        while True:
            message = live.channel.receive(max(0.0, deadline - time.monotonic()))
            match message["type"]:
                case MessageType.PROGRESS:
                    on_progress(Progress(done=message["done"], total=message["total"], unit=message["unit"]))
                case MessageType.TAIL:
                    live.output.wait_for_marker(message["marker"], _OUTPUT_WAIT_SECONDS)
                    live.channel.send({"type": MessageType.TAIL, "text": live.output.take_recent()})
                case MessageType.ANSWER:
                    return message
                case unknown:
                    raise ValueError(f"a message of unknown type {unknown!r}")

    def _result(self, answer: dict[str, Any]) -> StepOutcome | ErrorInfo:
        self._leaving = bool(answer["ending"])
        self._loaded = tuple(str(digest) for digest in answer["loaded"])
        if "error" in answer:
            return ErrorInfo.from_dict(answer["error"])
        return StepOutcome.from_json(answer["outcome"])

    def _lost(self, live: _Live, reason: str) -> ErrorInfo:
        """Say what became of a child that no longer talks, once nothing of it is left."""
        on_request = self._ended.is_set()
        if not live.keeper.wait_gone(_EXIT_WAIT_SECONDS):
            self.end(0.0)
        self._ended.set()
        live.output.wait_closed(_CLOSE_WAIT_SECONDS)
        return describe_loss(
            name=self._config.name,
            on_chip=self._config.device is not None,
            returncode=live.keeper.returncode,
            on_request=on_request,
            reason=reason,
            tail=live.output.tail(),
        )
