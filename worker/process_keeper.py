"""A program in a session of its own, from its start until the last of its processes is gone.

It knows nothing of jobs. The thread that starts the program is the one that stays until it ended, because the kernel
ties "die with the parent" to the thread. The program's process id stays reserved (a zombie) until the whole session
is swept, so that no signal can ever reach a stranger that inherited the number.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import psutil

KILLED_WITHIN_SECONDS: Final = 10.0
_SWEEP_WAIT_SECONDS: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to start.

    Attributes:
        name: for threads and messages.
        command: argument list, no shell.
        environment: the whole environment.
        pass_fds: descriptors that it inherits.
        output: descriptor for its stdout and stderr.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    pass_fds: tuple[int, ...]
    output: int


class ProcessKeeper:
    """Starts one program and ends its whole session."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._start_error: OSError | None = None
        self._started = threading.Event()
        self._gone = threading.Event()
        self._reaping = threading.Lock()
        self._survivors: list[int] = []

    def start(self) -> None:
        """Start the program; raises OSError when the system cannot."""
        threading.Thread(target=self._keep, name=f"{self._program.name}-keeper", daemon=True).start()
        self._started.wait()
        if self._start_error is not None:
            raise self._start_error

    @property
    def pid(self) -> int:
        """Return the process id, which is also the id of its group and session; 0 before the start."""
        return 0 if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Return whether the program itself (not its descendants) is there."""
        with self._reaping:
            if self._process is None or self._process.returncode is not None:
                return False
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None

    @property
    def returncode(self) -> int | None:
        """Return the exit status, negative for a signal, None until the session is swept."""
        return None if self._process is None else self._process.returncode

    def wait_gone(self, timeout_seconds: float) -> bool:
        """Wait until the session is swept; False when it is not in time."""
        return self._gone.wait(timeout_seconds)

    def end(self, grace_seconds: float) -> bool:
        """TERM to the group, wait, KILL, wait. Safe from any thread and when it has long ended.

        Returns:
            Whether every process of the session is gone; False: something survives `KILLED_WITHIN_SECONDS` of KILL.
        """
        self._signal(signal.SIGTERM)
        if not self._gone.wait(grace_seconds):
            self._signal(signal.SIGKILL)
        return self._gone.wait(KILLED_WITHIN_SECONDS) and not self._survivors

    def _signal(self, number: signal.Signals) -> None:
        with self._reaping:
            if self._process is not None and self._process.returncode is None:
                os.killpg(self._process.pid, number)

    def _keep(self) -> None:
        try:
            self._process = subprocess.Popen(
                list(self._program.command),
                env=dict(self._program.environment),
                stdin=subprocess.DEVNULL,
                stdout=self._program.output,
                stderr=subprocess.STDOUT,
                pass_fds=self._program.pass_fds,
                start_new_session=True,
            )
        except OSError as error:
            self._start_error = error
            self._gone.set()
            return
        finally:
            self._started.set()
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        self._survivors = sweep_session(self._process.pid)
        with self._reaping:
            self._process.wait()
        self._gone.set()


def session_members(session: int) -> list[psutil.Process]:
    """Return the living processes of a session, without its leader."""
    members = []
    for pid in psutil.pids():
        try:
            if pid != session and os.getsid(pid) == session:
                member = psutil.Process(pid)
                if member.status() != psutil.STATUS_ZOMBIE:
                    members.append(member)
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            continue  # gone meanwhile, or not ours
    return members


def sweep_session(session: int) -> list[int]:
    """KILL what a dead leader left behind; return the ids that survive `KILLED_WITHIN_SECONDS`."""
    deadline = time.monotonic() + KILLED_WITHIN_SECONDS
    while members := session_members(session):
        if time.monotonic() > deadline:
            return [member.pid for member in members]
        for member in members:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(members, timeout=_SWEEP_WAIT_SECONDS)
    return []
