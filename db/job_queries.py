"""What people, workers and the scheduler read about jobs. Nothing here writes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, exists, func, or_, select

from db import devices
from db.records import ActiveAttempt, Assignment, AttemptRecord, JobRecord
from db.tables import Attempt, Job, JobInput, Run
from db.types import db_now
from npuq.errors import Blame, ErrorInfo, NotFoundError
from npuq.states import ACTIVE_ATTEMPT_STATES, AttemptState, JobKind, JobState

#: Made once: the columns of an alias cost more than the query, which the scheduler asks at every tick.
_PARENT: Final = Job.__table__.alias("parent")


def find(
    connection: Connection,
    *,
    run_id: str | None = None,
    state: JobState | None = None,
    kind: JobKind | None = None,
    limit: int = 10_000,
) -> list[JobRecord]:
    """Return jobs in the order of their plans, newest runs first."""
    query = select(Job.__table__).limit(limit)
    if run_id is None:
        query = query.order_by(Job.created_at.desc(), Job.run_id, Job.ordinal)
    else:
        query = query.where(Job.run_id == run_id).order_by(Job.ordinal)
    if state is not None:
        query = query.where(Job.state == state)
    if kind is not None:
        query = query.where(Job.kind == kind)
    return [as_record(row) for row in connection.execute(query)]


def get(connection: Connection, job_id: str) -> JobRecord | None:
    """Return one job by its whole id."""
    row = connection.execute(select(Job.__table__).where(Job.id == job_id)).one_or_none()
    return None if row is None else as_record(row)


def get_many(connection: Connection, job_ids: Sequence[str]) -> list[JobRecord]:
    """Return some jobs by their whole ids, at most a few hundred."""
    return [as_record(row) for row in connection.execute(select(Job.__table__).where(Job.id.in_(job_ids)))]


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


def finished_since(
    connection: Connection, since: datetime | None, *, limit: int
) -> list[tuple[str, JobKind, float, datetime]]:
    """Return (recipe, kind, seconds, finished at) of jobs that ran alone with success: the newest, oldest first."""
    query = (
        select(Job.recipe, Job.kind, Job.started_at, Job.finished_at)
        .where(Job.state == JobState.SUCCEEDED, Job.reused_from.is_(None), Job.lead_id.is_(None))
        .order_by(Job.finished_at.desc())
        .limit(limit)
    )
    if since is not None:
        query = query.where(Job.finished_at > since)
    rows = connection.execute(query).all()
    return [
        (row.recipe, JobKind(row.kind), (row.finished_at - row.started_at).total_seconds(), row.finished_at)
        for row in reversed(rows)
    ]


def resolve(connection: Connection, text: str) -> str:
    """Return the job id that a unique prefix stands for; raises NotFoundError."""
    found = connection.execute(select(Job.id).where(Job.id.startswith(text, autoescape=True)).limit(3)).scalars().all()
    if len(found) == 1:
        return str(found[0])
    if not found:
        raise NotFoundError(f"no job begins with {text!r}; see: npuq jobs list")
    raise NotFoundError(f"{text!r} is not unique: it stands for {', '.join(found)}")


def attempts(connection: Connection, job_id: str) -> list[AttemptRecord]:
    """Return a job's attempts, first to last."""
    rows = connection.execute(select(Attempt.__table__).where(Attempt.job_id == job_id).order_by(Attempt.number))
    names = AttemptRecord.__dataclass_fields__
    return [AttemptRecord(**{name: getattr(row, name) for name in names}) for row in rows]


def active_progress(connection: Connection, run_id: str) -> list[AttemptRecord]:
    """Return the active attempts of a run, with their progress."""
    rows = connection.execute(
        select(Attempt.__table__)
        .join(Job, Job.id == Attempt.job_id)
        .where(Job.run_id == run_id, Attempt.state.in_(ACTIVE_ATTEMPT_STATES))
        .order_by(Attempt.device_id)
    )
    names = AttemptRecord.__dataclass_fields__
    return [AttemptRecord(**{name: getattr(row, name) for name in names}) for row in rows]


def parents(connection: Connection, job_id: str) -> list[tuple[str, JobRecord]]:
    """Return (role, job) of a job's inputs, in order."""
    rows = connection.execute(
        select(JobInput.role, Job.__table__)
        .join(Job, Job.id == JobInput.parent_id)
        .where(JobInput.job_id == job_id)
        .order_by(JobInput.role, JobInput.position)
    )
    return [(row.role, as_record(row)) for row in rows]


def inputs_of(connection: Connection, job: JobRecord) -> dict[str, tuple[str, ...]]:
    """Return role -> digests of everything a job takes: uploads, and what its inputs' jobs produced."""
    found: dict[str, tuple[str, ...]] = {role: tuple(digests) for role, digests in job.inputs.items()}
    for role, parent in parents(connection, job.job_id):
        found[role] = found.get(role, ()) + tuple(parent.outputs.get(role, ()))
    return found


def ready(connection: Connection, limit: int = 500) -> list[JobRecord]:
    """Return waiting jobs whose inputs have all succeeded: computed, never counted."""
    unfinished = (
        exists()
        .where(JobInput.job_id == Job.id, _PARENT.c.id == JobInput.parent_id)
        .where(_PARENT.c.state != JobState.SUCCEEDED)
    )
    rows = connection.execute(
        select(Job.__table__)
        .where(Job.state == JobState.WAITING, ~unfinished)
        # What was looked at and has to wait comes last, so that it hides nobody.
        .order_by(Job.reason != "", Job.priority.desc(), Job.created_at, Job.ordinal)
        .limit(limit)
    )
    return [as_record(row) for row in rows]


def any_doomed(connection: Connection) -> bool:
    """Tell whether a waiting job has an input that will not come."""
    gone = [JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED, JobState.HELD]
    row = connection.execute(
        select(Job.id)
        .join(JobInput, JobInput.job_id == Job.id)
        .join(_PARENT, _PARENT.c.id == JobInput.parent_id)
        .where(Job.state == JobState.WAITING, _PARENT.c.state.in_(gone))
        .limit(1)
    )
    return row.first() is not None


def equal_succeeded(connection: Connection, content_key: str) -> JobRecord | None:
    """Return the newest job that did the same work with success, by itself."""
    row = connection.execute(
        select(Job.__table__)
        .where(Job.content_key == content_key, Job.state == JobState.SUCCEEDED, Job.reused_from.is_(None))
        .order_by(Job.finished_at.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else as_record(row)


def equal_active(connection: Connection, content_key: str, pinned_device: str | None) -> str | None:
    """Return the id of a job that is doing, or is about to do, the same work.

    One that is pinned and not begun may have to wait for its device for ever: it is only told to what has the same pin.
    """
    begun = Job.state.in_([JobState.DISPATCHED, JobState.RUNNING])
    waits_alike = or_(Job.pinned_device.is_(None), Job.pinned_device == pinned_device)
    return connection.execute(
        select(Job.id)
        .where(Job.content_key == content_key, or_(begun, and_(Job.state == JobState.QUEUED, waits_alike)))
        .limit(1)
    ).scalar()


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
    rank = func.row_number().over(partition_by=Job.run_id, order_by=[Job.priority.desc(), Job.ordinal])
    window = (
        select(Job.id, rank.label("rank"))
        .where(
            Job.state == JobState.QUEUED,
            Job.kind.in_(kinds),
            or_(Job.not_before.is_(None), Job.not_before <= db_now()),
            or_(Job.soc_version.is_(None), Job.soc_version.in_(soc_versions)),
            or_(Job.toolchain.is_(None), Job.toolchain.in_(toolchains)),
            or_(Job.pinned_device.is_(None), Job.pinned_device.in_(device_ids)),
            Job.lead_id == Job.id if lead else Job.lead_id.is_(None),
        )
        .subquery()
    )
    rows = connection.execute(
        select(Job.__table__)
        .join(window, window.c.id == Job.id)
        .where(window.c.rank <= per_run)
        .order_by(Job.priority.desc(), Job.created_at, Job.ordinal)
        .limit(limit)
    )
    return [as_record(row) for row in rows]


def ready_together(connection: Connection, lead_ids: Sequence[str]) -> dict[str, list[JobRecord]]:
    """Return the id of a leading job -> all jobs that may be tried now of those that it leads, itself first."""
    rows = connection.execute(
        select(Job.__table__)
        .where(
            Job.lead_id.in_(lead_ids),
            Job.state == JobState.QUEUED,
            or_(Job.not_before.is_(None), Job.not_before <= db_now()),
        )
        .order_by(Job.lead_id != Job.id, Job.ordinal)
    )
    found: dict[str, list[JobRecord]] = {}
    for row in rows:
        found.setdefault(row.lead_id, []).append(as_record(row))
    return found


def left_behind(connection: Connection, limit: int = 200) -> list[tuple[JobRecord, JobRecord]]:
    """Return (open job, final job) of the same card's measurement where the final one decides the other's end.

    A companion goes the way of its lead; a lead cannot go on without a companion that did not succeed.
    """
    other = Job.__table__.alias("other")
    unfinished = [JobState.WAITING, JobState.QUEUED]
    gone = [JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED, JobState.HELD]
    rows = connection.execute(
        select(Job.id, other.c.id.label("other_id"))
        .join(other, other.c.lead_id == Job.lead_id)
        .where(
            Job.state.in_(unfinished),
            Job.lead_id.is_not(None),
            or_(
                and_(other.c.id == Job.lead_id, other.c.state.in_([*gone, JobState.SUCCEEDED])),
                and_(Job.id == Job.lead_id, other.c.state.in_(gone)),
            ),
            other.c.id != Job.id,
        )
        .order_by(Job.id, other.c.ordinal)
        .limit(limit)
    ).all()
    records = {job.job_id: job for job in get_many(connection, sorted({each for row in rows for each in row}))}
    return [(records[row.id], records[row.other_id]) for row in rows]


def stranded(connection: Connection, toolchains: Sequence[str], limit: int = 100) -> list[JobRecord]:
    """Return queued jobs that need a toolchain which is none of these."""
    rows = connection.execute(
        select(Job.__table__)
        .where(Job.state == JobState.QUEUED, Job.toolchain.is_not(None), Job.toolchain.not_in(toolchains))
        .limit(limit)
    )
    return [as_record(row) for row in rows]


def active(connection: Connection) -> list[ActiveAttempt]:
    """Return every attempt that a device has, with what only the database's clock can say of it."""
    rows = connection.execute(
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
            func.coalesce(Attempt.lease_until < db_now(), False).label("lease_over"),
            db_now().label("now"),
        )
        .join(Job, Job.id == Attempt.job_id)
        .where(Attempt.state.in_(ACTIVE_ATTEMPT_STATES))
        .order_by(Attempt.device_id, Attempt.created_at)
    ).all()
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


def assignment(connection: Connection, job_id: str, attempt: int, owner: str, suspect_seconds: float) -> Assignment:
    """Return everything a worker needs for an attempt it has claimed."""
    job = get(connection, job_id)
    device_id = connection.execute(
        select(Attempt.device_id).where(Attempt.job_id == job_id, Attempt.number == attempt)
    ).scalar_one()
    if job is None:
        raise NotFoundError(f"job {job_id} is not in the database")
    facts: dict[str, list[Mapping[str, Any]]] = {}
    for role, parent in parents(connection, job_id):
        facts.setdefault(role, []).append(parent.facts)
    return Assignment(
        job_id=job_id,
        run_id=job.run_id,
        attempt=attempt,
        owner=owner,
        kind=job.kind,
        recipe=job.recipe,
        recipe_version=job.recipe_version,
        params=job.params,
        soc_version=job.soc_version,
        device=devices.get(connection, device_id, suspect_seconds=suspect_seconds),
        inputs=inputs_of(connection, job),
        input_facts={role: tuple(found) for role, found in facts.items()},
        failures=job.failures,
        losses=job.losses,
        max_attempts=job.max_attempts,
        previous_error=None if job.error is None else job.error.code,
        source_name=_source_name(connection, job.run_id),
        accompanies=job.accompanies,
    )


def _source_name(connection: Connection, run_id: str) -> str:
    spec: Mapping[str, Any] = connection.execute(select(Run.spec).where(Run.id == run_id)).scalar_one()
    return str(spec["source"]["name"])


def running_on(connection: Connection, device_ids: Sequence[str]) -> list[tuple[str, int, int, int]]:
    """Return (job, attempt, beats, losses) of the attempts that run on these devices.

    For a worker that holds the devices' locks and has claimed nothing yet: the kernel has said that no process of
    these attempts is left.
    """
    rows = connection.execute(
        select(Attempt.job_id, Attempt.number, Attempt.beats, Job.losses)
        .join(Job, Job.id == Attempt.job_id)
        .where(Attempt.device_id.in_(device_ids), Attempt.state == AttemptState.RUNNING)
    )
    return [(row.job_id, row.number, row.beats, row.losses) for row in rows]


def as_record(row: Row[Any]) -> JobRecord:
    """Return the value of a row of `jobs`."""
    derived = {"job_id", "error", "avoid_devices", "refused_hosts"}
    error = None
    if row.error_code is not None:
        error = ErrorInfo(
            code=row.error_code,
            blame=Blame(row.error_blame),
            message=row.error_message,
            retry=row.state == JobState.QUEUED,
            detail=row.error_detail or "",
        )
    return JobRecord(
        job_id=row.id,
        error=error,
        avoid_devices=tuple(row.avoid_devices),
        refused_hosts=tuple(row.refused_hosts),
        **{name: getattr(row, name) for name in JobRecord.__dataclass_fields__ if name not in derived},
    )
