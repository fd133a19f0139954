"""What the scheduler asks about jobs, most of it at every tick. Nothing here writes.

Statements are made once, where what they ask for is always the same: making one takes longer than asking it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from db.job_queries import as_record, get_many
from db.records import ActiveAttempt, JobRecord
from db.tables import ATTEMPT_IS_ACTIVE, JOB_IS_OPEN, Attempt, Job, JobInput
from db.types import db_now
from npuq.states import ACTIVE_ATTEMPT_STATES, AttemptState, JobKind, JobState

_PARENT: Final = Job.__table__.alias("parent")
_OTHER: Final = Job.__table__.alias("other")
_UNFINISHED: Final = (JobState.WAITING, JobState.QUEUED)
_GONE: Final = (JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED, JobState.HELD)
_READY: Final = (
    select(Job.__table__)
    .where(
        JOB_IS_OPEN,
        Job.state == JobState.WAITING,
        ~exists()
        .where(JobInput.job_id == Job.id, _PARENT.c.id == JobInput.parent_id)
        .where(_PARENT.c.state != JobState.SUCCEEDED),
    )
    # What was looked at and has to wait comes last, so that it hides nobody.
    .order_by(Job.reason != "", Job.priority.desc(), Job.created_at, Job.ordinal)
    .limit(bindparam("limit"))
)
_DOOMED: Final = (
    select(Job.id)
    .join(JobInput, JobInput.job_id == Job.id)
    .join(_PARENT, _PARENT.c.id == JobInput.parent_id)
    .where(JOB_IS_OPEN, Job.state == JobState.WAITING, _PARENT.c.state.in_(_GONE))
    .limit(1)
)
_LEFT_BEHIND: Final = (
    select(Job.id, _OTHER.c.id.label("other_id"))
    .join(_OTHER, _OTHER.c.lead_id == Job.lead_id)
    .where(
        JOB_IS_OPEN,
        Job.state.in_(_UNFINISHED),
        Job.lead_id.is_not(None),
        or_(
            and_(_OTHER.c.id == Job.lead_id, _OTHER.c.state.in_([*_GONE, JobState.SUCCEEDED])),
            and_(Job.id == Job.lead_id, _OTHER.c.state.in_(_GONE)),
        ),
        _OTHER.c.id != Job.id,
    )
    .order_by(Job.id, _OTHER.c.ordinal)
    .limit(bindparam("limit"))
)
_STRANDED: Final = (
    select(Job.__table__)
    .where(
        JOB_IS_OPEN,
        Job.state == JobState.QUEUED,
        Job.toolchain.is_not(None),
        Job.toolchain.not_in(bindparam("toolchains", expanding=True)),
    )
    .limit(bindparam("limit"))
)
_EQUAL_SUCCEEDED: Final = (
    select(Job.__table__)
    .where(Job.content_key == bindparam("key"), Job.state == JobState.SUCCEEDED, Job.reused_from.is_(None))
    .order_by(Job.finished_at.desc())
    .limit(1)
)
_EQUAL_ACTIVE: Final = (
    select(Job.id)
    .where(
        Job.content_key == bindparam("key"),
        or_(
            Job.state.in_([JobState.DISPATCHED, JobState.RUNNING]),
            and_(
                Job.state == JobState.QUEUED,
                or_(Job.pinned_device.is_(None), Job.pinned_device == bindparam("pinned_device")),
            ),
        ),
    )
    .limit(1)
)
_MAY_BE_TRIED: Final = and_(
    JOB_IS_OPEN, Job.state == JobState.QUEUED, or_(Job.not_before.is_(None), Job.not_before <= db_now())
)
_READY_TOGETHER: Final = (
    select(Job.__table__)
    .where(Job.lead_id.in_(bindparam("lead_ids", expanding=True)), _MAY_BE_TRIED)
    .order_by(Job.lead_id != Job.id, Job.ordinal)
)
_EVER: Final = datetime.min.replace(tzinfo=UTC)
_FINISHED_SINCE: Final = (
    select(Job.recipe, Job.kind, Job.started_at, Job.finished_at)
    .where(
        Job.state == JobState.SUCCEEDED,
        Job.reused_from.is_(None),
        Job.lead_id.is_(None),
        Job.finished_at > bindparam("since"),
    )
    .order_by(Job.finished_at.desc())
    .limit(bindparam("limit"))
)
_ACTIVE: Final = (
    select(
        Attempt.job_id,
        Attempt.number,
        Job.run_id,
        Job.kind,
        Job.cancel_requested,
        Attempt.device_id,
        Attempt.state,
        Attempt.beats,
        Attempt.publishes,
        Attempt.published_at,
        Attempt.started_at,
        Attempt.created_at,
        func.coalesce(Attempt.lease_until < db_now(), False).label("lease_over"),
        db_now().label("now"),
    )
    .join(Job, Job.id == Attempt.job_id)
    .where(ATTEMPT_IS_ACTIVE, Attempt.state.in_(ACTIVE_ATTEMPT_STATES))
)


def ready(connection: Connection, limit: int = 500) -> list[JobRecord]:
    """Return waiting jobs whose inputs have all succeeded: computed, never counted."""
    return [as_record(row) for row in connection.execute(_READY, {"limit": limit})]


def any_doomed(connection: Connection) -> bool:
    """Tell whether a waiting job has an input that will not come."""
    return connection.execute(_DOOMED).first() is not None


def equal_succeeded(connection: Connection, content_key: str) -> JobRecord | None:
    """Return the newest job that did the same work with success, by itself."""
    row = connection.execute(_EQUAL_SUCCEEDED, {"key": content_key}).one_or_none()
    return None if row is None else as_record(row)


def equal_active(connection: Connection, content_key: str, pinned_device: str | None) -> str | None:
    """Return the id of a job that is doing, or is about to do, the same work.

    One that is pinned and not begun may have to wait for its device for ever: it is only told to what has the same pin.
    """
    return connection.execute(_EQUAL_ACTIVE, {"key": content_key, "pinned_device": pinned_device}).scalar()


def left_behind(connection: Connection, limit: int = 200) -> list[tuple[JobRecord, JobRecord]]:
    """Return (open job, final job) of the same card's measurement where the final one decides the other's end.

    A companion goes the way of its lead; a lead cannot go on without a companion that did not succeed.
    """
    rows = connection.execute(_LEFT_BEHIND, {"limit": limit}).all()
    if not rows:
        return []
    records = {job.job_id: job for job in get_many(connection, sorted({each for row in rows for each in row}))}
    return [(records[row.id], records[row.other_id]) for row in rows]


def stranded(connection: Connection, toolchains: Sequence[str], limit: int = 100) -> list[JobRecord]:
    """Return queued jobs that need a toolchain which is none of these."""
    rows = connection.execute(_STRANDED, {"toolchains": list(toolchains), "limit": limit})
    return [as_record(row) for row in rows]


def queued(
    connection: Connection,
    *,
    kinds: Sequence[JobKind],
    soc_versions: Sequence[str],
    toolchains: Sequence[str],
    device_ids: Sequence[str],
    per_run: int,
    limit: int,
    lead: bool = False,
) -> list[JobRecord]:
    """Return queued jobs that may be tried now, best first.

    Only those that some chip or toolchain of the fleet could run, those pinned to a device only for `device_ids`, and
    at most `per_run` of each run: neither what nobody can run nor an enormous run may hide the rest.

    Either jobs that run alone, or (`lead`) those that lead the jobs for a whole card.
    """
    rows = connection.execute(
        _queued(lead=lead),
        {
            "kinds": list(kinds),
            "soc_versions": list(soc_versions),
            "toolchains": list(toolchains),
            "device_ids": list(device_ids),
            "per_run": per_run,
            "limit": limit,
        },
    )
    return [as_record(row) for row in rows]


@cache
def _queued(*, lead: bool) -> Select[Any]:
    rank = func.row_number().over(partition_by=Job.run_id, order_by=[Job.priority.desc(), Job.ordinal])

    def none_or_one_of(column: InstrumentedAttribute[str | None], names: str) -> ColumnElement[bool]:
        return or_(column.is_(None), column.in_(bindparam(names, expanding=True)))

    window = (
        select(Job.id, rank.label("rank"))
        .where(
            _MAY_BE_TRIED,
            Job.kind.in_(bindparam("kinds", expanding=True)),
            none_or_one_of(Job.soc_version, "soc_versions"),
            none_or_one_of(Job.toolchain, "toolchains"),
            none_or_one_of(Job.pinned_device, "device_ids"),
            Job.lead_id == Job.id if lead else Job.lead_id.is_(None),
        )
        .subquery()
    )
    return (
        select(Job.__table__)
        .join(window, window.c.id == Job.id)
        .where(window.c.rank <= bindparam("per_run"))
        .order_by(Job.priority.desc(), Job.created_at, Job.ordinal)
        .limit(bindparam("limit"))
    )


def ready_together(connection: Connection, lead_ids: Sequence[str]) -> dict[str, list[JobRecord]]:
    """Return the id of a leading job -> all jobs that may be tried now of those that it leads, itself first."""
    rows = connection.execute(_READY_TOGETHER, {"lead_ids": list(lead_ids)})
    found: dict[str, list[JobRecord]] = {}
    for row in rows:
        found.setdefault(row.lead_id, []).append(as_record(row))
    return found


def models(connection: Connection, job_ids: Sequence[str]) -> dict[str, str]:
    """Return job id -> digest of the OM it runs, for jobs that run one."""
    found = {
        row.id: row.inputs["om"][0]
        for row in connection.execute(select(Job.id, Job.inputs).where(Job.id.in_(job_ids)))
        if row.inputs.get("om")
    }
    rows = connection.execute(
        select(JobInput.job_id, Job.outputs)
        .join(Job, Job.id == JobInput.parent_id)
        .where(JobInput.job_id.in_(job_ids), JobInput.role == "om")
    )
    return found | {row.job_id: row.outputs["om"][0] for row in rows if row.outputs.get("om")}


def active(connection: Connection) -> list[ActiveAttempt]:
    """Return every attempt that a device has, with what only the database's clock can say; by device, in order."""
    # Sorted here: to have them in order, SQLite would rather go through all attempts that there ever were.
    rows = sorted(connection.execute(_ACTIVE), key=lambda row: (row.device_id, row.created_at))
    return [_as_active(row) for row in rows]


def _as_active(row: Any) -> ActiveAttempt:  # noqa: ANN401 - a row of `active`
    def since(moment: Any) -> float | None:  # noqa: ANN401 - a datetime or None
        return None if moment is None else float((row.now - moment).total_seconds())

    return ActiveAttempt(
        job_id=row.job_id,
        number=row.number,
        run_id=row.run_id,
        kind=JobKind(row.kind),
        device_id=row.device_id,
        state=AttemptState(row.state),
        beats=row.beats,
        publishes=row.publishes,
        unanswered_seconds=since(row.published_at),
        lease_over=bool(row.lease_over),
        age_seconds=since(row.started_at) or 0.0,
        cancel_requested=row.cancel_requested,
    )


def finished_since(
    connection: Connection, since: datetime | None, *, limit: int
) -> list[tuple[str, JobKind, float, datetime]]:
    """Return (recipe, kind, seconds, finished at) of jobs that ran alone with success: the newest, oldest first."""
    rows = connection.execute(_FINISHED_SINCE, {"since": since or _EVER, "limit": limit}).all()
    return [
        (row.recipe, JobKind(row.kind), (row.finished_at - row.started_at).total_seconds(), row.finished_at)
        for row in reversed(rows)
    ]
