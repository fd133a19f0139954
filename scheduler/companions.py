"""The jobs that run at the same time on the other chips of a card end as the one that leads them does.

A companion has no outcome of its own: when it has handed its measurement over, it is queued again until the leading
job's result is committed. So there is no moment at which one of them counts and another does not.
"""

from sqlalchemy import Connection

from db import jobs, scheduling_queries
from db.engine import Database
from db.records import JobRecord
from npuq.errors import Blame, ErrorInfo
from npuq.states import JobState


def settle(database: Database) -> int:
    """End the companions of leading jobs that have ended, and leading jobs that lost a companion; returns how many."""
    with database.read() as connection:
        found = scheduling_queries.left_behind(connection)
    if not found:
        return 0
    return database.transact(lambda connection: sum(_end(connection, job, other) for job, other in found))


def _end(connection: Connection, job: JobRecord, other: JobRecord) -> bool:
    if not job.leads:
        return jobs.follow_lead(connection, job.job_id)
    return jobs.give_up_lead(connection, job.job_id, other.job_id, error_of(other))


def error_of(companion: JobRecord) -> ErrorInfo:
    """Return the error of a leading job whose companion will not come."""
    if companion.error is None or companion.state in {JobState.CANCELLED, JobState.SKIPPED}:
        why, blame, detail = f"is {companion.state}", Blame.INPUT, ""
    else:
        why = f"is {companion.state}: {companion.error.message}"
        blame, detail = companion.error.blame, companion.error.detail
    return ErrorInfo(
        code="companion_gone",
        blame=blame,
        message=f"all chips of a card are measured at once, and {companion.label} {why}",
        retry=False,
        detail=detail,
    )
