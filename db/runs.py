"""Runs: accepted, found, planned, settled."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, exists, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from db import jobs
from db.records import NewJob, RunRecord
from db.tables import RUN_IS_OPEN, Job, JobInput, Run
from db.types import db_now
from npuq.errors import InvalidRequestError, NotFoundError
from npuq.specs import RunSpec
from npuq.states import FINAL_JOB_STATES, FINAL_RUN_STATES, JobState, RunState


def accept(connection: Connection, spec: RunSpec) -> bool:
    """Insert a submitted run; False when it is there already (the id is the submission key)."""
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    inserted = connection.execute(
        dialect.insert(Run)
        .values(
            id=spec.run_id,
            name=spec.name,
            recipe=spec.recipe,
            spec=spec.model_dump(mode="json"),
            state=RunState.SUBMITTED,
            submitter=spec.submitter,
            cancel_requested=False,
            submitted_at=spec.submitted_at,
            created_at=db_now(),
        )
        .on_conflict_do_nothing()
    )
    return bool(inserted.rowcount == 1)


def plan(connection: Connection, run_id: str, graph: Sequence[NewJob]) -> bool:
    """`submitted` -> `active`: insert the planned graph; False when somebody planned it already."""
    planned = connection.execute(
        update(Run).where(Run.id == run_id, Run.state == RunState.SUBMITTED).values(state=RunState.ACTIVE, reason="")
    )
    if planned.rowcount != 1:
        return False
    _insert_graph(connection, run_id, graph)
    return True


def _insert_graph(connection: Connection, run_id: str, jobs: Sequence[NewJob]) -> None:
    """Insert a run's planned jobs, all `waiting`, in the order of the plan. Parents come before their children."""
    ids = {job.label: job.job_id for job in jobs}
    if not jobs:
        return
    connection.execute(
        insert(Job).values(created_at=db_now()),
        [
            {
                "id": job.job_id,
                "run_id": run_id,
                "ordinal": ordinal,
                "label": job.label,
                "kind": job.kind,
                "recipe": job.recipe,
                "recipe_version": job.recipe_version,
                "params": dict(job.params),
                "inputs": {role: list(digests) for role, digests in job.inputs.items()},
                "soc_version": job.soc_version,
                "pinned_device": job.pinned_device,
                "lead_id": job.lead_id,
                "fresh": job.fresh,
                "priority": job.priority,
                "state": JobState.WAITING,
                "max_attempts": job.max_attempts,
                "avoid_devices": [],
                "refused_hosts": [],
                "outputs": {},
                "facts": {},
            }
            for ordinal, job in enumerate(jobs)
        ],
    )
    edges = [
        {"job_id": job.job_id, "parent_id": ids[parent], "role": role, "position": position}
        for job in jobs
        for role, parents in job.parents.items()
        for position, parent in enumerate(parents)
    ]
    if edges:
        connection.execute(insert(JobInput), edges)


def refuse(connection: Connection, run_id: str, reason: str) -> bool:
    """`submitted` -> `failed`: it cannot be planned."""
    return _end_unplanned(connection, run_id, RunState.FAILED, reason)


def note_reason(connection: Connection, run_id: str, reason: str) -> None:
    """Say what planning waits for."""
    connection.execute(
        update(Run).where(Run.id == run_id, Run.state == RunState.SUBMITTED, Run.reason != reason).values(reason=reason)
    )


def _end_unplanned(connection: Connection, run_id: str, state: RunState, reason: str) -> bool:
    ended = connection.execute(
        update(Run)
        .where(Run.id == run_id, Run.state == RunState.SUBMITTED)
        .values(state=state, reason=reason, finished_at=db_now())
    )
    return bool(ended.rowcount == 1)


def cancel(connection: Connection, run_id: str) -> Mapping[JobState, int]:
    """Cancel a run: every job that is not final; returns the states that its jobs had afterwards, counted."""
    if _end_unplanned(connection, run_id, RunState.CANCELLED, "cancelled before it was planned"):
        return {}
    connection.execute(update(Run).where(Run.id == run_id).values(cancel_requested=True))
    open_jobs = connection.execute(
        select(Job.id).where(Job.run_id == run_id, Job.state.not_in(FINAL_JOB_STATES)).order_by(Job.id)
    ).scalars()
    counts: dict[JobState, int] = {}
    for job_id in open_jobs.all():
        state = jobs.request_cancel(connection, job_id)
        counts[state] = counts.get(state, 0) + 1
    return counts


def plan_again(connection: Connection, run_id: str) -> bool:
    """Send a run that ended before it was planned back to planning; False when it has jobs, or is not over."""
    has_jobs = exists().where(Job.run_id == run_id)
    moved = connection.execute(
        update(Run)
        .where(Run.id == run_id, Run.state.in_([RunState.FAILED, RunState.CANCELLED]), ~has_jobs)
        .values(state=RunState.SUBMITTED, finished_at=None, cancel_requested=False, reason="")
    )
    return bool(moved.rowcount == 1)


def retry(connection: Connection, run_id: str) -> list[str]:
    """Send every unsuccessful final job of a run back to `waiting`; returns their ids.

    Raises:
        InvalidRequestError: some of its jobs are still being cancelled.
    """
    ending = connection.execute(
        select(Job.id).where(Job.run_id == run_id, Job.state == JobState.RUNNING, Job.cancel_requested).limit(1)
    ).first()
    if ending is not None:
        raise InvalidRequestError(f"run {run_id} is still ending its cancelled jobs; try again in a few seconds")
    wanted = (JobState.FAILED, JobState.HELD, JobState.CANCELLED, JobState.SKIPPED)
    ids = connection.execute(select(Job.id).where(Job.run_id == run_id, Job.state.in_(wanted))).scalars().all()
    return jobs.retry_many(connection, run_id, ids)


#: An active run whose jobs are all final.
SETTLED: Final = and_(
    RUN_IS_OPEN, Run.state == RunState.ACTIVE, ~exists().where(Job.run_id == Run.id, Job.state.not_in(FINAL_JOB_STATES))
)


def settle(connection: Connection) -> list[str]:
    """End every active run whose jobs are all final; returns their ids."""
    ended = connection.execute(select(Run.id).where(SETTLED)).scalars().all()
    for run_id in ended:
        # A person's retry holds this lock while jobs move back; what is counted after it is what they left.
        connection.execute(select(Run.id).where(Run.id == run_id).with_for_update())
        counts = count_jobs(connection, [run_id])[run_id]
        if counts.get(JobState.FAILED) or counts.get(JobState.HELD):
            state = RunState.FAILED
        elif counts.get(JobState.CANCELLED) or counts.get(JobState.SKIPPED):
            state = RunState.CANCELLED
        else:
            state = RunState.SUCCEEDED
        connection.execute(update(Run).where(Run.id == run_id, SETTLED).values(state=state, finished_at=db_now()))
    return list(ended)


def submitted(connection: Connection, limit: int = 100) -> list[RunRecord]:
    """Return runs that are not planned yet, oldest first."""
    rows = connection.execute(
        select(Run.__table__).where(RUN_IS_OPEN, Run.state == RunState.SUBMITTED).order_by(Run.created_at).limit(limit)
    )
    return [_as_record(row, {}) for row in rows]


def find(
    connection: Connection, *, limit: int = 50, only_open: bool = False, recipe: str | None = None
) -> list[RunRecord]:
    """Return runs, newest first, with their jobs counted by state."""
    query = select(Run.__table__).order_by(Run.created_at.desc(), Run.id.desc()).limit(limit)
    if only_open:
        query = query.where(Run.state.not_in(FINAL_RUN_STATES))
    if recipe is not None:
        query = query.where(Run.recipe == recipe)
    rows = connection.execute(query).all()
    counts = count_jobs(connection, [row.id for row in rows])
    return [_as_record(row, counts[row.id]) for row in rows]


def get(connection: Connection, run_id: str) -> RunRecord | None:
    """Return one run by its whole id."""
    row = connection.execute(select(Run.__table__).where(Run.id == run_id)).one_or_none()
    return None if row is None else _as_record(row, count_jobs(connection, [run_id])[run_id])


def resolve(connection: Connection, text: str) -> str:
    """Return the run id that a unique prefix or `@last` stands for.

    Raises:
        NotFoundError: no run, or several, begin with it.
    """
    query = select(Run.id)
    if text == "@last":
        newest = connection.execute(query.order_by(Run.created_at.desc(), Run.id.desc()).limit(1)).scalar()
        if newest is None:
            raise NotFoundError("there is no run yet; begin with: npuq demo")
        return str(newest)
    found = connection.execute(query.where(Run.id.startswith(text, autoescape=True)).limit(3)).scalars().all()
    if len(found) == 1:
        return str(found[0])
    if not found:
        raise NotFoundError(f"no run begins with {text!r}; see: npuq runs list")
    raise NotFoundError(f"{text!r} is not unique: it stands for {', '.join(found)}")


def count_jobs(connection: Connection, run_ids: Sequence[str]) -> dict[str, dict[JobState, int]]:
    """Return run id -> state -> number of jobs."""
    counts: dict[str, dict[JobState, int]] = {run_id: {} for run_id in run_ids}
    rows = connection.execute(
        select(Job.run_id, Job.state, func.count().label("number"))
        .where(Job.run_id.in_(run_ids))
        .group_by(Job.run_id, Job.state)
    )
    for row in rows:
        counts[row.run_id][JobState(row.state)] = row.number
    return counts


def _as_record(row: Row[Any], counts: Mapping[JobState, int]) -> RunRecord:
    plain = [name for name in RunRecord.__dataclass_fields__ if name not in {"run_id", "jobs"}]
    return RunRecord(run_id=row.id, jobs=counts, **{name: getattr(row, name) for name in plain})
