"""What people and workers read about jobs; `scheduling_queries` has what the scheduler asks. Nothing here writes."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from db import devices
from db.records import Assignment, AttemptRecord, JobRecord
from db.tables import Attempt, Job, JobInput, Run
from npuq.errors import Blame, ErrorInfo, NotFoundError
from npuq.states import ACTIVE_ATTEMPT_STATES, AttemptState, JobKind, JobState


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
