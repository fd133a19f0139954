"""Waiting without a picture: for a run, a job, or a submission that is still in the outbox."""

import time
from dataclasses import dataclass
from typing import Final

from cli.ids import find_target_or_submission
from cli.session import Session
from cli.watching.delivery import deliver
from cli.watching.verdict import FAILED_STATES, exit_code
from db import job_queries, runs
from db.records import JobRecord
from npuq.errors import NotFoundError
from npuq.specs import RunSpec
from npuq.states import FINAL_JOB_STATES, FINAL_RUN_STATES, JobState, RunState

POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class Awaited:
    """A run, or one of its jobs.

    Attributes:
        run_id: the run.
        job_id: the job, None for the whole run.
        submission: what has to be delivered first, None when the fleet knows the run.
    """

    run_id: str
    job_id: str | None = None
    submission: RunSpec | None = None

    @property
    def name(self) -> str:
        """Return what to call it: `run ...`, `job ...`."""
        return f"run {self.run_id}" if self.job_id is None else f"job {self.job_id}"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How something ended, and the exit code that this stands for."""

    state: RunState | JobState
    exit_code: int


def find_awaited(session: Session, text: str) -> Awaited:
    """Return what a text stands for; raises NotFoundError, DatabaseError."""
    found = find_target_or_submission(session, text)
    if isinstance(found, RunSpec):
        return Awaited(run_id=found.run_id, submission=found)
    return Awaited(run_id=found.run.run_id, job_id=None if found.job is None else found.job.job_id)


def wait_until_over(session: Session, awaited: Awaited, deadline: float | None) -> Ended:
    """Wait for a final state and return it.

    Raises:
        TimeoutError: the deadline (monotonic seconds) passed first.
    """
    if awaited.submission is not None:
        deliver(session, awaited.submission, deadline)
    while (ended := _ended(session, awaited)) is None:
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError(f"{awaited.name} is not over")
        time.sleep(POLL_SECONDS)
    return ended


def _ended(session: Session, awaited: Awaited) -> Ended | None:
    """Return how it ended, None when it is not over; raises NotFoundError."""
    with session.read() as connection:
        if awaited.job_id is not None:
            return _job_ended(job_queries.get(connection, awaited.job_id), awaited)
        run = runs.get(connection, awaited.run_id)
        if run is None:
            raise NotFoundError(f"no run {awaited.run_id}; see: npuq runs list")
        if run.state not in FINAL_RUN_STATES:
            return None
        failed = [
            job for state in FAILED_STATES for job in job_queries.find(connection, run_id=run.run_id, state=state)
        ]
    return Ended(state=run.state, exit_code=exit_code(run.state, failed))


def _job_ended(job: JobRecord | None, awaited: Awaited) -> Ended | None:
    if job is None:
        raise NotFoundError(f"no job {awaited.job_id}; see: npuq jobs list")
    failed = [job] if job.state in FAILED_STATES else []
    return Ended(state=job.state, exit_code=exit_code(job.state, failed)) if job.state in FINAL_JOB_STATES else None
