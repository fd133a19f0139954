"""The program of a child process: takes attempts from its worker, runs the step, answers.

It knows neither database nor broker, and dies with its worker. The worker starts it (`worker.child`), nobody else.
"""

import argparse
import ctypes
import faulthandler
import json
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from signal import SIGKILL, SIGTERM
from typing import Any, Protocol, cast

from npuq.errors import ErrorInfo
from tasks.steps import Step, StepContext, StepOutcome, StepRequest
from worker.child_protocol import ChildSettings, MessageType
from worker.host_process import HostProcess, ReportProgress
from worker.json_lines import ChannelClosedError, JsonLines
from worker.parent_death import die_with_parent
from worker.step_errors import error_info, origin

PROGRESS_INTERVAL_SECONDS = 0.1
TAIL_WAIT_SECONDS = 5.0


class StepHost(Protocol):
    """What stands around the steps: a chip with its models and feeders, or nothing."""

    @property
    def loaded(self) -> tuple[str, ...]:
        """Return the digests of models kept loaded."""

    @property
    def fit(self) -> bool:
        """Return whether it can take another attempt."""

    def context(self, request: StepRequest, report: ReportProgress, read_output: Callable[[], str]) -> StepContext:
        """Return what the step of one attempt may use."""

    def note_failure(self, error: ErrorInfo) -> None:
        """Hear of an attempt that failed."""

    def close(self) -> None:
        """Let go of everything."""


class ChildProgram:
    """The loop of the child."""

    def __init__(self, channel: JsonLines, host: StepHost, settings: ChildSettings) -> None:
        self._channel = channel
        self._host = host
        self._settings = settings
        self._next_progress = 0.0

    def serve(self) -> None:
        """Take attempts until the worker closes the channel or the host is no longer fit."""
        while self._host.fit:
            try:
                message = self._channel.receive()
                answer = self._attempt(StepRequest.from_json(message["request"]))
                _print_marker(message["marker"])
                self._channel.send(answer)
            except ChannelClosedError:
                return

    def _attempt(self, request: StepRequest) -> dict[str, Any]:
        self._next_progress = 0.0
        try:
            outcome = self._run(request)
            result: dict[str, Any] = {"outcome": outcome.to_json()}
            json.dumps(result, allow_nan=False)  # what cannot travel is the step's fault, not the channel's
        except ChannelClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - the seam: whatever a step raises becomes a value
            info = error_info(error)
            sys.stderr.write(f"{type(error).__name__} in the step {request.kind}\n{origin(error)}\n")
            self._host.note_failure(info)
            result = {"error": info.as_dict()}
        return {
            "type": MessageType.ANSWER,
            "loaded": list(self._host.loaded),
            "ending": not self._host.fit,
            **result,
        }

    def _run(self, request: StepRequest) -> StepOutcome:
        module, function = self._settings.steps[request.kind].split(":")
        step = cast("Step", getattr(import_module(module), function))
        os.chdir(request.workdir)
        try:
            return step(self._host.context(request, self._report, self._output_tail))
        finally:
            os.chdir("/")  # the worker removes the folder

    def _report(self, done: int, total: int, unit: str) -> None:
        now = time.monotonic()
        if now < self._next_progress and done < total:
            return
        self._next_progress = now + PROGRESS_INTERVAL_SECONDS
        self._channel.send({"type": MessageType.PROGRESS, "done": done, "total": total, "unit": unit})

    def _output_tail(self) -> str:
        """Ask the worker for the last lines of this attempt: native code prints past Python, into the pipe."""
        marker = f"npuq-tail-{os.urandom(16).hex()}"
        _print_marker(marker)
        self._channel.send({"type": MessageType.TAIL, "marker": marker})
        return str(self._channel.receive(TAIL_WAIT_SECONDS)["text"])


def _print_marker(marker: str) -> None:
    sys.stderr.flush()
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)  # native code has buffers of its own
    os.write(sys.stdout.fileno(), f"{marker}\n".encode())


def _step_host(settings: ChildSettings) -> StepHost:
    if settings.device is None:
        return HostProcess()
    from worker.device_process import DeviceProcess  # brings numpy, without which host steps start sooner

    return DeviceProcess(settings, settings.device)


def main(argv: Sequence[str]) -> int:
    """Run a child; `argv` is made by `worker.child`. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="npuq child", description="Started by a worker; not for people.")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--settings", type=json.loads, required=True)
    options = parser.parse_args(argv)
    settings = ChildSettings.from_json(options.settings)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a text file here
    for descriptor in filter(None, (options.control_fd, settings.lock_fd)):
        os.set_inheritable(descriptor, False)
    # A tool below a host step cannot be ended by the kernel together with it; the handler of TERM sees to that.
    die_with_parent(options.parent_pid, SIGTERM if settings.device is None else SIGKILL)
    host = _step_host(settings)
    channel = JsonLines(socket.socket(fileno=options.control_fd))
    try:
        ChildProgram(channel, host, settings).serve()
    finally:
        host.close()
        channel.close()
    return 0
