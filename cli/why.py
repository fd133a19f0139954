"""`npuq why`."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import typer

from cli.options import Target
from cli.session import Session, open_session
from npuq.states import FINAL_JOB_STATES, JobState

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from db.records import JobRecord, RunRecord
    from npuq.specs import RunSpec

EXAMPLES: Final = ("npuq why", "npuq why 3f2a9c01")
#: What a person asks about first.
_TROUBLE = (JobState.FAILED, JobState.HELD, JobState.RUNNING, JobState.DISPATCHED, JobState.QUEUED, JobState.WAITING)
SHOWN_JOBS = 5


def command(ctx: typer.Context, target: Target = "@last") -> None:
    """Say in words why a run or a job stands where it stands."""
    from cli.ids import find_target_or_submission
    from cli.invocation import as_called
    from npuq.specs import RunSpec

    with open_session(ctx) as session:
        found = find_target_or_submission(session, target)
        if isinstance(found, RunSpec):
            sentences = _explain_submission(session, found)
        else:
            with session.read() as connection:
                if found.job is not None:
                    sentences = _explain(session, connection, found.job)
                else:
                    sentences = _explain_run(session, connection, found.run)
    sys.stdout.write("".join(f"{as_called(sentence)}\n" for sentence in sentences))


def _explain_submission(session: Session, spec: "RunSpec") -> list[str]:
    from cli.watching.delivery import explain

    submission = session.client.deliver(spec)
    if submission.seen:
        return [f"run {spec.run_id} was taken by the fleet just now"]
    embedded = session.settings.broker_url is None
    return explain(submission, spec, embedded=embedded, now=datetime.now(UTC)).splitlines()


def _explain_run(session: Session, connection: "Connection", run: "RunRecord") -> list[str]:
    from cli.fleet_fit import absent_chips
    from cli.reasons import explain_run
    from cli.words import counted
    from db import devices, job_queries, leadership

    jobs = job_queries.find(connection, run_id=run.run_id)
    fleet = devices.find(connection, suspect_seconds=session.settings.timing.suspect_seconds)
    sentences = explain_run(run, led=leadership.leader(connection) is not None)
    sentences += absent_chips((job.soc_version for job in jobs if job.state not in FINAL_JOB_STATES), fleet)
    for job, alike in _in_trouble(jobs):
        sentences += ["", *_explain(session, connection, job)]
        if alike:
            sentences.append(f"and {counted(alike, 'more job')} like it")
    return sentences


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
