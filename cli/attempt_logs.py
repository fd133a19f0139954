"""Reading the logs of attempts: pieces from the database while one runs, the whole from the store afterwards."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cli.session import Session
from db import job_queries, logs, runs
from db.records import AttemptRecord, JobRecord
from npuq.errors import ArtifactError
from npuq.states import ACTIVE_ATTEMPT_STATES, FINAL_JOB_STATES, FINAL_RUN_STATES, AttemptState

POLL_SECONDS: Final = 0.3


@dataclass
class _Reading:
    """How far the log of one job was written out.

    Attributes:
        attempt: the attempt that is being read, 0 before the first.
        position: of its last piece.
        text: what was written of it.
        partial: the end of it that is no whole line yet.
        finished: nothing more comes of this attempt.
    """

    attempt: int = 0
    position: int = -1
    text: str = ""
    partial: str = ""
    finished: bool = False


@dataclass
class LogWriter:
    """Writes logs of several jobs to stdout, whole lines, each with its job's label when there are several."""

    session: Session
    prefixed: bool
    tail: int | None = None
    written: bool = False
    """Something was written."""
    _readings: dict[str, _Reading] = field(default_factory=dict)

    def write_new(self, job: JobRecord, wanted: int | None = None) -> None:
        """Write what is new of a job's log; `wanted`: of one attempt only, else of the newest."""
        reading = self._readings.setdefault(job.job_id, _Reading())
        with self.session.read() as connection:
            attempts = job_queries.attempts(connection, job.job_id)
            attempt = _choose(attempts, wanted)
            if attempt is None:
                return
            if attempt.number != reading.attempt:
                self._flush(job, reading)
                reading = self._readings[job.job_id] = _Reading(attempt=attempt.number)
            pieces = logs.read(connection, job.job_id, attempt.number, after=reading.position)
        if pieces:
            reading.position = pieces[-1][0]
            self._write(job, reading, "".join(text for _, text in pieces))
        if attempt.state not in ACTIVE_ATTEMPT_STATES and not reading.finished:
            self._finish(job, reading, attempt)

    def _finish(self, job: JobRecord, reading: _Reading, attempt: AttemptRecord) -> None:
        """Write the rest of a finished attempt's log from the store."""
        reading.finished = True
        if attempt.log_digest is not None:
            try:
                whole = self.session.client.store.fetch(attempt.log_digest).read_text("utf-8", errors="replace")
            except ArtifactError as error:
                whole = reading.text
                sys.stderr.write(f"the log of {job.label} cannot be read: {error}\n")
            # A long log was cut in the middle when it was stored: then what is missing cannot be told apart.
            rest = whole.removeprefix(reading.text) if whole.startswith(reading.text) else ""
            self._write(job, reading, rest)
        self._flush(job, reading)

    def _write(self, job: JobRecord, reading: _Reading, text: str) -> None:
        first = not reading.text
        reading.text += text
        *lines, reading.partial = (reading.partial + text).split("\n")
        if first and self.tail is not None:
            lines = lines[max(0, len(lines) - self.tail) :]
        self._out(job, lines)

    def _flush(self, job: JobRecord, reading: _Reading) -> None:
        if reading.partial:
            self._out(job, [reading.partial])
            reading.partial = ""

    def _out(self, job: JobRecord, lines: Sequence[str]) -> None:
        self.written = self.written or bool(lines)
        prefix = f"{job.label} | " if self.prefixed else ""
        sys.stdout.write("".join(f"{prefix}{line}\n" for line in lines))
        sys.stdout.flush()


def _choose(attempts: Sequence[AttemptRecord], wanted: int | None) -> AttemptRecord | None:
    """Return the attempt whose log is wanted; by default the newest that began."""
    begun = [item for item in attempts if item.state not in {AttemptState.DISPATCHED, AttemptState.WITHDRAWN}]
    if wanted is not None:
        begun = [item for item in begun if item.number == wanted]
    return begun[-1] if begun else None


def follow(writer: LogWriter, run_id: str, job_ids: Sequence[str]) -> None:
    """Write what comes until these jobs of a run are over; no ids: all that the run has or will have."""
    while True:
        with writer.session.read() as connection:
            run = runs.get(connection, run_id)
            jobs = job_queries.find(connection, run_id=run_id)
        wanted = [job for job in jobs if not job_ids or job.job_id in job_ids]
        for job in wanted:
            writer.write_new(job)
        jobs_come = not wanted and run is not None and run.state not in FINAL_RUN_STATES
        if not jobs_come and all(job.state in FINAL_JOB_STATES for job in wanted):
            return
        time.sleep(POLL_SECONDS)
