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
    from cli.invocation import as_called
    from cli.reasons import explain_run
    from cli.words import counted
    from db import job_queries, leadership

    with open_session(ctx) as session, session.read() as connection:
        found = find_target(connection, target)
        if found.job is not None:
            sentences = _explain(session, connection, found.job)
        else:
            sentences = explain_run(found.run, led=leadership.leader(connection) is not None)
            for job, alike in _in_trouble(job_queries.find(connection, run_id=found.run.run_id)):
                sentences += ["", *_explain(session, connection, job)]
                if alike:
                    sentences.append(f"and {counted(alike, 'more job')} like it")
    sys.stdout.write("".join(f"{as_called(sentence)}\n" for sentence in sentences))


def _in_trouble(jobs: "Sequence[JobRecord]") -> "list[tuple[JobRecord, int]]":
    """Return the first jobs of the most telling state that there is, and how many more have the same to tell."""
    for state in _TROUBLE:
        alike: dict[str, list[JobRecord]] = {}
        for job in jobs:
            if job.state is state:
                alike.setdefault(job.error.message if job.error else f"{job.kind} {job.reason}", []).append(job)
        if alike:
            return [(group[0], len(group) - 1) for group in list(alike.values())[:SHOWN_JOBS]]
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
