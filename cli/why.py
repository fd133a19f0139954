"""`npuq why`."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from cli.options import Target
from cli.session import Session, open_session
from npuq.states import JobState

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from db.records import JobRecord

#: What a person asks about first.
_TROUBLE = (JobState.FAILED, JobState.HELD, JobState.RUNNING, JobState.DISPATCHED, JobState.QUEUED, JobState.WAITING)
SHOWN_JOBS = 5


def command(ctx: typer.Context, target: Target = "@last") -> None:
    """Say in words why a run or a job stands where it stands."""
    from cli.ids import find_target
    from cli.reasons import explain_run
    from db import job_queries, leadership

    with open_session(ctx) as session, session.read() as connection:
        found = find_target(connection, target)
        if found.job is not None:
            sentences = _explain(session, connection, found.job)
        else:
            sentences = explain_run(found.run, led=leadership.leader(connection) is not None)
            jobs = job_queries.find(connection, run_id=found.run.run_id)
            for job in _first_in_trouble(jobs):
                sentences += ["", *_explain(session, connection, job)]
    sys.stdout.write("".join(f"{sentence}\n" for sentence in sentences))


def _first_in_trouble(jobs: "Sequence[JobRecord]") -> "list[JobRecord]":
    """Return some jobs of the most telling state that there is."""
    for state in _TROUBLE:
        found = [job for job in jobs if job.state is state]
        if found:
            return found[:SHOWN_JOBS]
    return []


def _explain(session: Session, connection: "Connection", job: "JobRecord") -> list[str]:
    from cli.reasons import Circumstances, explain_job
    from db import devices, job_queries, leadership

    around = Circumstances(
        parents=[parent for _role, parent in job_queries.parents(connection, job.job_id)],
        attempts=job_queries.attempts(connection, job.job_id),
        devices=devices.find(connection, suspect_seconds=session.settings.timing.suspect_seconds),
        led=leadership.leader(connection) is not None,
        now=datetime.now(UTC),
    )
    return explain_job(job, around)
