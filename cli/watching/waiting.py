"""What one may wait for: a run, a job, or a submission that still waits in the outbox."""

import time
from dataclasses import dataclass
from typing import Final

from cli.ids import find_target
from cli.session import Session
from db import job_queries, runs
from npuq.errors import NotFoundError
from npuq.outbox import Outbox
from npuq.states import FINAL_JOB_STATES, FINAL_RUN_STATES, JobState, RunState

POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class Awaited:
    """A run, or one of its jobs."""

    run_id: str
    job_id: str | None = None


def find_awaited(session: Session, text: str) -> Awaited:
    """Return what a text stands for; raises NotFoundError."""
    try:
        with session.read() as connection:
            target = find_target(connection, text)
    except NotFoundError:
        waiting = [run_id for run_id in outbox_runs(session) if run_id.startswith(text)]
        if len(waiting) != 1:
            raise
        return Awaited(run_id=waiting[0])
    return Awaited(run_id=target.run.run_id, job_id=None if target.job is None else target.job.job_id)


def outbox_runs(session: Session) -> list[str]:
    """Return the runs that this machine submitted and the fleet has not been seen to accept."""
    return [spec.run_id for spec in Outbox(session.settings.home / "outbox").pending()]


def wait_until_over(session: Session, awaited: Awaited, deadline: float | None) -> JobState | RunState | None:
    """Wait for a final state and return it; None when the deadline (monotonic seconds) passes first."""
    while True:
        state = _state(session, awaited)
        if state in FINAL_RUN_STATES or state in FINAL_JOB_STATES:
            return state
        if deadline is not None and time.monotonic() > deadline:
            return None
        if state is None:
            session.client.flush_outbox()
        time.sleep(POLL_SECONDS)


def _state(session: Session, awaited: Awaited) -> JobState | RunState | None:
    """Return the present state; None while it waits in the outbox. Raises NotFoundError when nobody knows it."""
    with session.read() as connection:
        if awaited.job_id is not None:
            job = job_queries.get(connection, awaited.job_id)
            return None if job is None else job.state
        run = runs.get(connection, awaited.run_id)
    if run is None and awaited.run_id not in outbox_runs(session):
        raise NotFoundError(f"no run {awaited.run_id}; see: npuq runs list")
    return None if run is None else run.state
