"""A program that is kept running, as a host's service manager keeps a service: started, killed, started again."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

KILLED_WITHIN_SECONDS: Final = 10.0


class KeptProgram:
    """One program in a session of its own; its output is appended to one log file over all its lives.

    Args:
        name: for messages.
        command: argument list.
        environment: the whole environment.
        log: file for stdout and stderr.
        system_user: user id to run as; None: ours.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        system_user: int | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.starts = 0
        self._command = list(command)
        self._environment = dict(environment)
        self._system_user = system_user
        self._process: subprocess.Popen[bytes] | None = None
        self._restart_at = 0.0

    @property
    def alive(self) -> bool:
        """Tell whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Return its process id while it runs."""
        return self._process.pid if self.alive and self._process is not None else None

    def start(self) -> None:
        """Start it; the predecessor must have ended."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._system_user,
            )
        self.starts += 1

    def tend(self, now: float, delay_seconds: float) -> None:
        """Start it again `delay_seconds` after it was first seen dead; `now` is monotonic."""
        if self.alive:
            self._restart_at = 0.0
        elif self._restart_at == 0.0:
            self._restart_at = now + delay_seconds
        elif now >= self._restart_at:
            self._restart_at = 0.0
            self.start()

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to the program alone; False when it does not run."""
        pid = self.pid
        if pid is None:
            return False
        os.kill(pid, number)
        return True

    def kill(self) -> bool:
        """KILL it and wait; False when it did not run."""
        if not self.send(signal.SIGKILL) or self._process is None:
            return False
        self._process.wait(KILLED_WITHIN_SECONDS)
        return True

    def stop(self, grace_seconds: float, number: signal.Signals = signal.SIGTERM) -> bool:
        """Ask it to end, KILL it after `grace_seconds`; returns whether it ended by itself."""
        if self._process is None:
            return True
        deadline = time.monotonic() + grace_seconds
        self.send(signal.SIGCONT)
        self.send(number)
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True
