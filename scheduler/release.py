"""Jobs whose inputs are there: reused from equal work, put behind equal work that is under way, or queued."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from db import devices, job_queries, jobs, scheduling_queries
from db.engine import Database
from db.records import DeviceRecord, JobRecord
from npuq.config import Settings
from npuq.errors import NpuqError
from npuq.log import get_logger
from npuq.states import DeviceKind, JobKind
from scheduler.reuse import is_stored, key_of, trusted
from scheduler.toolchains import Toolchains

BATCH: Final = 200
"""Jobs moved in one transaction."""
log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """A ready job with its key, the toolchain that it lacks, and equal work that is done or under way."""

    job: JobRecord
    key: str
    toolchain: str | None
    missing: str
    done: JobRecord | None
    busy: str | None


@dataclass(frozen=True, kw_only=True)
class _Move:
    """What becomes of a ready job: reused from `twin`, waiting for a `reason`, or (neither) queued."""

    job: JobRecord
    key: str = ""
    toolchain: str | None = None
    twin: str | None = None
    reason: str | None = None


def release_ready(database: Database, settings: Settings, has_artifact: Callable[[str], bool]) -> int:
    """Move every waiting job whose inputs are there, and skip those whose inputs will not come; returns how many.

    Args:
        database: the truth.
        settings: for how long a silent host still counts.
        has_artifact: whether the store still has the bytes of a digest; asked outside of any transaction.
    """
    with database.read() as connection:
        doomed = scheduling_queries.any_doomed(connection)
        ready = scheduling_queries.ready(connection, BATCH)
        toolchains = Toolchains.of(_slots(connection, settings)) if ready else Toolchains()
        candidates = [_candidate(connection, job, toolchains) for job in ready]
    moves = _decide(candidates, has_artifact)
    skipped = database.transact(jobs.skip_doomed) if doomed else 0
    moves = [move for move in moves if move.reason is None or move.reason != move.job.reason]
    if not moves:
        return skipped
    return skipped + database.transact(lambda connection: sum(_apply(connection, move) for move in moves))


def _slots(connection: Connection, settings: Settings) -> list[DeviceRecord]:
    return devices.find(connection, suspect_seconds=settings.timing.suspect_seconds, kind=DeviceKind.HOST)


def _candidate(connection: Connection, job: JobRecord, toolchains: Toolchains) -> _Candidate:
    toolchain, missing = toolchains.choose(job.params) if job.kind is JobKind.CONVERT else (None, "")
    key = key_of(job, job_queries.inputs_of(connection, job), toolchain)
    return _Candidate(
        job=job,
        key=key,
        toolchain=toolchain,
        missing="" if toolchain else missing,
        done=None if job.fresh else trusted(scheduling_queries.equal_succeeded(connection, key)),
        busy=None if job.fresh else scheduling_queries.equal_active(connection, key, job.pinned_device),
    )


def _decide(candidates: Sequence[_Candidate], has_artifact: Callable[[str], bool]) -> list[_Move]:
    moves: list[_Move] = []
    taken: dict[str, JobRecord] = {}
    for candidate in candidates:
        job, key = candidate.job, candidate.key
        busy = candidate.busy or _taken_by(job, taken.get(key))
        try:
            reusable = candidate.done is not None and is_stored(candidate.done, has_artifact)
        except NpuqError as error:
            moves.append(_Move(job=job, reason=f"whether equal work can be reused is unknown: {error}"))
            continue
        if candidate.done is not None and reusable:
            moves.append(_Move(job=job, key=key, twin=candidate.done.job_id))
        elif candidate.missing:
            moves.append(_Move(job=job, reason=candidate.missing))
        elif busy is not None:
            moves.append(_Move(job=job, reason=f"job {busy[:12]} is doing the same work"))
        else:
            taken[key] = job
            moves.append(_Move(job=job, key=key, toolchain=candidate.toolchain))
    return moves


def _taken_by(job: JobRecord, equal: JobRecord | None) -> str | None:
    """Return the job before it that does the same work; one that is pinned elsewhere may wait for ever, see there."""
    if job.fresh or equal is None or equal.pinned_device not in {None, job.pinned_device}:
        return None
    return equal.job_id


def _apply(connection: Connection, move: _Move) -> bool:
    """Write a move; True when it brought the job on."""
    if move.reason is not None:
        jobs.note_reason(connection, move.job.job_id, move.reason)
        return False
    if move.twin is not None:
        log.info("job_reused", job_id=move.job.job_id, twin=move.twin)
        return jobs.reuse(connection, move.job.job_id, content_key=move.key, twin_id=move.twin)
    return jobs.enqueue(connection, move.job.job_id, content_key=move.key, toolchain=move.toolchain)
