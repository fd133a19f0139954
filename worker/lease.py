"""The heartbeat of one attempt: renews the lease, ships the log, and hears whether to stop.

It beats in a thread of its own, in the process that does not own the chip, so that a chip which holds the interpreter
lock cannot stop it. A database that is away changes nothing: the work goes on and the beat asks again. Told that the
attempt is no longer ours, it ends the work at once.
"""

import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection

from db import jobs, logs
from db.engine import Database
from db.records import Assignment, BeatReply
from npuq.config import Settings
from npuq.errors import DatabaseError, SupersededError
from npuq.log import get_logger
from worker.attempt_log import AttemptLog

ALONE_SECONDS: Final = 6 * 3600.0
"""Without a word from the database for this long, the work is ended: nobody may remember it."""
log = get_logger(__name__)


class Ended(StrEnum):
    """Why the work of an attempt was told to end."""

    LOST = "lost"  #: the attempt belongs to somebody else, or nobody: write nothing
    CANCELLED = "cancelled"  #: a person said so
    HANDED_BACK = "handed_back"  #: this worker is stopping, or its chip is sick: to be done elsewhere


class Lease:
    """One attempt's lease."""

    def __init__(self, database: Database, settings: Settings, assignment: Assignment, attempt_log: AttemptLog) -> None:
        self._database = database
        self._timing = settings.timing
        self._log_limit = settings.log_limit_bytes
        self._shipped = 0
        self._assignment = assignment
        self._log = attempt_log
        self._began = time.monotonic()
        self._heard = self._began
        self._progress: Mapping[str, Any] | None = None
        self._stop = threading.Event()
        self._end_work: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self.ended: Ended | None = None
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Stop beating; waits for a beat that is under way."""
        self._stop.set()
        self._thread.join(timeout=60.0)

    def show(self, progress: Mapping[str, Any]) -> None:
        """Carry this progress with the next beat."""
        self._progress = progress

    def ends_with(self, end_work: Callable[[], None]) -> bool:
        """Say how to end the work; False when it was already told to end."""
        with self._lock:
            self._end_work = end_work
            return self.ended is None

    def work_is_over(self) -> None:
        """Say that the work has answered: only the report is left, and the process that worked may serve another job.

        A beat that crosses the report is told that the attempt is over, and must not end that process.
        """
        with self._lock:
            self._end_work = None

    def end(self, reason: Ended) -> None:
        """End the work; the first reason stays, but a lost attempt overrules every other."""
        with self._lock:
            if self.ended is Ended.LOST or (self.ended is not None and reason is not Ended.LOST):
                return
            self.ended = reason
            end_work = self._end_work
        if end_work is not None:
            log.info("work_ended", reason=reason.value)
            end_work()

    def _run(self) -> None:
        while not self._stop.wait(self._timing.beat_seconds):
            try:
                reply = self._beat()
            except SupersededError:
                self.end(Ended.LOST)
                return
            except DatabaseError as error:
                log.warning("beat_failed", reason=str(error))
                if time.monotonic() - self._heard > ALONE_SECONDS:
                    self.end(Ended.LOST)
                    return
                continue
            except Exception:  # a beat must outlive every surprise, or the work is taken away
                log.exception("beat_failed")
                continue
            self._heard = time.monotonic()
            if reply.cancel:
                self.end(Ended.CANCELLED)
            elif reply.evict:
                self.end(Ended.HANDED_BACK)

    def _next_text(self) -> str:
        """Return what the log has grown by; no more than is kept of it is shipped, the rest is in the stored log."""
        text = self._log.take_new()
        room = self._log_limit - self._shipped
        if not text or room <= 0:
            return ""
        self._shipped += len(text)
        return (
            text if len(text) < room else f"{text[:room]}\n[... more in the stored log, when the attempt is over ...]\n"
        )

    def _beat(self) -> BeatReply:
        text = self._next_text()
        age = time.monotonic() - self._began
        job_id, attempt, owner = self._assignment.job_id, self._assignment.attempt, self._assignment.owner

        def write(connection: Connection) -> BeatReply:
            reply = jobs.beat(
                connection,
                job_id,
                attempt,
                owner=owner,
                lease_seconds=self._timing.lease_seconds(age),
                progress=self._progress,
            )
            if text:
                logs.append(connection, job_id, attempt, owner=owner, text=text)
            return reply

        return self._database.transact(write, patience_seconds=self._timing.beat_seconds)
