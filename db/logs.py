"""Logs of running attempts, in pieces; a finished attempt's log is an artifact."""

from sqlalchemy import Connection, func, insert, select

from db.tables import Attempt, LogChunk
from npuq.errors import SupersededError
from npuq.states import AttemptState


def append(connection: Connection, job_id: str, attempt: int, *, owner: str, text: str) -> None:
    """Append a piece to the log of an attempt that is ours; raises SupersededError when it is not."""
    ours = connection.execute(
        select(Attempt.owner).where(
            Attempt.job_id == job_id,
            Attempt.number == attempt,
            Attempt.owner == owner,
            Attempt.state == AttemptState.RUNNING,
        )
    ).scalar()
    if ours is None:
        raise SupersededError(f"attempt {attempt} of job {job_id} no longer belongs to this worker")
    last = connection.execute(
        select(func.coalesce(func.max(LogChunk.position), -1)).where(
            LogChunk.job_id == job_id, LogChunk.attempt == attempt
        )
    ).scalar_one()
    connection.execute(insert(LogChunk).values(job_id=job_id, attempt=attempt, position=last + 1, text=text))


def read(connection: Connection, job_id: str, attempt: int, after: int = -1) -> list[tuple[int, str]]:
    """Return (position, text) of the pieces after a position."""
    rows = connection.execute(
        select(LogChunk.position, LogChunk.text)
        .where(LogChunk.job_id == job_id, LogChunk.attempt == attempt, LogChunk.position > after)
        .order_by(LogChunk.position)
    )
    return [(row.position, row.text) for row in rows]
