"""Jobs whose inputs are there: reused from equal work, put behind equal work that is under way, or queued."""

from collections.abc import Callable
from typing import Any, Final

from db import devices, job_queries, jobs
from db.engine import Database
from db.records import JobRecord
from npuq.config import Settings
from npuq.log import get_logger
from npuq.specs import content_key
from npuq.states import DeviceKind, JobKind

BATCH: Final = 500
#: Parameters that say how a thing is called, not what is computed.
_NAMES_ONLY: Final = frozenset({"dataset"})
log = get_logger(__name__)


def release_ready(database: Database, settings: Settings, has_artifact: Callable[[str], bool]) -> int:
    """Move every waiting job whose inputs are there, and skip those whose inputs will not come; returns how many.

    Args:
        database: the truth.
        settings: for how long a silent host still counts.
        has_artifact: whether the store still has the bytes of a digest.
    """
    skipped = _skip(database)
    with database.read() as connection:
        ready = job_queries.ready(connection, BATCH)
        toolchain = _toolchain(connection, settings) if ready else None
    released = sum(_release(database, job, toolchain, has_artifact) for job in ready)
    return skipped + released


def _skip(database: Database) -> int:
    with database.read() as connection:
        if not job_queries.any_doomed(connection):
            return 0
    return database.transact(jobs.skip_doomed)


def _toolchain(connection: Any, settings: Settings) -> str | None:  # noqa: ANN401 - a Connection
    """Return the toolchain that conversions use now: the newest one on a working host."""
    slots = devices.find(connection, suspect_seconds=settings.timing.suspect_seconds, kind=DeviceKind.HOST)
    found = {slot.toolchain for slot in slots if slot.toolchain}
    return max(found, default=None)


def _release(
    database: Database, job: JobRecord, newest_toolchain: str | None, has_artifact: Callable[[str], bool]
) -> bool:
    toolchain = newest_toolchain if job.kind is JobKind.CONVERT else None
    if job.kind is JobKind.CONVERT and toolchain is None:
        database.transact(lambda connection: jobs.note_reason(connection, job.job_id, "no host with ATC is online"))
        return False
    with database.read() as connection:
        key = _key(job, job_queries.inputs_of(connection, job), toolchain)
        twin = None if job.fresh else job_queries.equal_succeeded(connection, key)
        busy = None if job.fresh else job_queries.equal_active(connection, key)
    if twin is not None and all(has_artifact(digest) for digests in twin.outputs.values() for digest in digests):
        log.info("job_reused", job_id=job.job_id, twin=twin.job_id)
        twin_id = twin.job_id
        return database.transact(lambda c: jobs.reuse(c, job.job_id, content_key=key, twin_id=twin_id))
    if busy is not None:
        reason = f"job {busy[:8]} is doing the same work"
        database.transact(lambda connection: jobs.note_reason(connection, job.job_id, reason))
        return False
    return database.transact(lambda c: jobs.enqueue(c, job.job_id, content_key=key, toolchain=toolchain))


def _key(job: JobRecord, inputs: dict[str, tuple[str, ...]], toolchain: str | None) -> str:
    return content_key(
        job.kind,
        recipe=job.recipe,
        recipe_version=job.recipe_version,
        inputs=inputs,
        params={name: value for name, value in job.params.items() if name not in _NAMES_ONLY},
        toolchain=toolchain or "",
    )
