"""The pool's handle on one feeder process: start it, send it frames, notice that it is gone."""

import os
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from npuq.errors import ChildLostError
from worker.feeder_wire import Frame, receive_frame, send_frame
from worker.interpreter import program_command

_FRAME_SECONDS: Final = 20.0
_LEAVE_SECONDS: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class FeederSettings:
    """How feeders are set up.

    Attributes:
        count: number of processes, at least 1.
        sample_cache: folder of the preprocessed samples of this host.
        sample_cache_bytes: its bound; 0 switches it off.
        lock_fd: descriptor of the chip's lock, to be held as long as a feeder lives; None without a lock.
    """

    count: int
    sample_cache: Path
    sample_cache_bytes: int
    lock_fd: int | None = None


class FeederProcess:
    """One feeder. It must be started by a thread that lives as long as it shall: the feeder dies with that thread."""

    def __init__(self, settings: FeederSettings, environment: Mapping[str, str]) -> None:
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(_FRAME_SECONDS)
        self.in_flight = 0
        arguments = {
            "--channel-fd": theirs.fileno(),
            "--parent-pid": os.getpid(),
            "--sample-cache": settings.sample_cache,
            "--sample-cache-bytes": settings.sample_cache_bytes,
        }
        lock = () if settings.lock_fd is None else (settings.lock_fd,)
        with theirs:
            self._process = subprocess.Popen(
                program_command("worker.feeder_main") + [str(part) for pair in arguments.items() for part in pair],
                env=dict(environment) | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *lock),
            )

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    def send(self, frame: Frame) -> None:
        """Send a frame; raises ChildLostError."""
        try:
            send_frame(self.channel, frame)
        except OSError as error:
            raise self._lost(error) from error

    def receive(self) -> Frame:
        """Read the frame that has begun to arrive; raises ChildLostError."""
        try:
            return receive_frame(self.channel)
        except (EOFError, OSError) as error:
            raise self._lost(error) from error

    def close(self) -> None:
        """End it: the end of the channel tells, KILL insists."""
        self.channel.close()
        try:
            self._process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _lost(self, error: Exception) -> ChildLostError:
        return ChildLostError(
            f"A feeder process (pid {self.pid}) is gone or stuck: {error}. If the host is short of memory, lower the "
            "number of feeders."
        )
