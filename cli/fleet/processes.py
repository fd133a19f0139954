"""Processes that `npuq up` starts and `npuq down` ends: recorded by pid and start time, so that no other is touched.

A pid alone means nothing: after a crash or a reboot it may belong to anybody. Whatever does not match both is left
alone, and its record is forgotten.
"""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

#: Start times are derived from the boot time, which moves a little when the clock is set.
START_TIME_TOLERANCE_SECONDS: Final = 2.0
KILL_WAIT_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.02
KEPT_LOGS: Final = 3

#: Children of this very process: they are waited for here, or they would stay as zombies.
_children: Final[dict[int, "subprocess.Popen[bytes]"]] = {}


@dataclass(frozen=True, kw_only=True)
class ProcessRecord:
    """A started process.

    Attributes:
        name: its role, for example `scheduler`.
        pid: its number; it leads its own session.
        create_time: when it started, seconds since 1970, as the kernel tells it.
        command: argument list.
        log: file that takes its stdout and stderr.
        facts: what `up` wants to know of it later, JSON values.
    """

    name: str
    pid: int
    create_time: float
    command: tuple[str, ...]
    log: str
    facts: Mapping[str, Any]

    def process(self) -> psutil.Process | None:
        """Return the live process of this record; None when it is gone, whoever has its pid now."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.create_time) <= START_TIME_TOLERANCE_SECONDS
            return found if same and _runs(found) else None
        except psutil.NoSuchProcess:
            return None


class ProcessTable:
    """The processes of one fleet, one JSON file each; a record without its process means nothing."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self._folder = folder
        self._logs = logs

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def find(self, name: str) -> ProcessRecord | None:
        """Return the record of a process that lives; None when there is none."""
        _reap()
        try:
            data = json.loads(self._path(name).read_text("utf-8"))
            record = ProcessRecord(**{**data, "command": tuple(data["command"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            record = None
        # A record without its process is left lying: who starts the next one writes over it, and to remove it here
        # could remove what another command has just written.
        return None if record is None or record.process() is None else record

    def log_path(self, name: str) -> Path:
        """Return the file that takes the output of a process."""
        return self._logs / f"{name}.log"

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        facts: Mapping[str, Any] | None = None,
    ) -> ProcessRecord:
        """Start a process in its own session, its output in a fresh log file, and record it."""
        log = self.log_path(name)
        _rotate(log)
        with log.open("wb") as output:
            child = subprocess.Popen(
                list(command),
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _children[child.pid] = child
        return self.adopt(name, child.pid, command=command, facts=facts)

    def adopt(
        self, name: str, pid: int, *, command: Sequence[str], facts: Mapping[str, Any] | None = None
    ) -> ProcessRecord:
        """Record a live process as ours; it may be gone again already, which `find` then says."""
        try:
            create_time = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            create_time = 0.0
        record = ProcessRecord(
            name=name,
            pid=pid,
            create_time=create_time,
            command=tuple(command),
            log=str(self.log_path(name)),
            facts=dict(facts or {}),
        )
        temporary = self._path(name).with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(asdict(record)), "utf-8")
        temporary.replace(self._path(name))
        return record

    def end(self, name: str, *, grace_seconds: float) -> bool:
        """End a process of ours: TERM, wait, then KILL it and whatever it left; False when it did not live."""
        record = self.find(name)
        process = None if record is None else record.process()
        if process is None:
            return False
        end_tree(process, grace_seconds=grace_seconds)
        self._path(name).unlink(missing_ok=True)
        return True


def end_tree(process: psutil.Process, *, grace_seconds: float) -> None:
    """End a process and its descendants: TERM to the process alone, it knows how to end the others; then KILL."""
    try:
        family = [process, *process.children(recursive=True)]
        process.terminate()
    except psutil.NoSuchProcess:
        return
    unwilling = _wait_ended([process], grace_seconds)
    left = family if unwilling else _wait_ended(family, KILL_WAIT_SECONDS)
    for member in left:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    _wait_ended(left, KILL_WAIT_SECONDS)
    child = _children.pop(process.pid, None)
    if child is not None:
        child.wait(timeout=KILL_WAIT_SECONDS)


def _reap() -> None:
    """Take leave of children that have ended."""
    for pid, child in list(_children.items()):
        if child.poll() is not None:
            del _children[pid]


def _wait_ended(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until processes have ended, reaped or not; returns those that have not."""
    deadline = time.monotonic() + seconds
    while left := [process for process in processes if _runs(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    return left


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _rotate(log: Path) -> None:
    """Keep the logs of the last starts: `x.log` -> `x.log.1` -> ..."""
    for number in range(KEPT_LOGS, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        newer = log if number == 1 else log.with_name(f"{log.name}.{number - 1}")
        if newer.exists():
            newer.replace(older)


def last_lines(path: Path, count: int) -> str:
    """Return the last lines of a log, "" when there is none."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-count:])
