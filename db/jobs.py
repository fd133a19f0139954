"""The moves of jobs and attempts: the only writer of a job's state.

Every move locks the job's row, looks at it, and changes job and attempt by statements that name the state, attempt and
owner they expect. Each function may be run again after an answer was lost: it finds its own traces and says so.
A move that comes too late changes nothing and raises `SupersededError`, or returns False where being late is normal.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, ScalarSelect, delete, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from db import artifacts, results
from db.records import BeatReply, Completion, NewArtifact
from db.tables import ATTEMPT_IS_ACTIVE, JOB_IS_OPEN, Attempt, Device, Job, JobInput, LogChunk, Run
from db.types import batched, db_now, storable
from npuq.errors import ErrorInfo, InvalidRequestError, SupersededError
from npuq.retry import Decision
from npuq.states import (
    FINAL_JOB_STATES,
    FINAL_RUN_STATES,
    AttemptState,
    DeviceCause,
    DeviceState,
    JobState,
    RunState,
)

_RETRYABLE: Final = frozenset({JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED, JobState.HELD})
_NO_ERROR: Final[Mapping[str, None]] = {
    "error_code": None,
    "error_blame": None,
    "error_message": None,
    "error_detail": None,
}


def _error_columns(error: ErrorInfo) -> dict[str, str]:
    return {
        "error_code": storable(error.code)[:64],
        "error_blame": error.blame.value,
        "error_message": storable(error.message),
        "error_detail": storable(error.detail),
    }


def _lock(connection: Connection, job_id: str) -> Row[Any]:
    """Lock a job's row for this transaction and return it; on SQLite the whole database is locked already."""
    row = connection.execute(select(Job.__table__).where(Job.id == job_id).with_for_update()).one_or_none()
    if row is None:
        raise SupersededError(f"job {job_id} is not in the database")
    return row


def _attempt(connection: Connection, job_id: str, number: int) -> Row[Any]:
    row = connection.execute(
        select(Attempt.__table__).where(Attempt.job_id == job_id, Attempt.number == number)
    ).one_or_none()
    if row is None:
        raise SupersededError(f"attempt {number} of job {job_id} is not in the database")
    return row


def _move(connection: Connection, job: Row[Any], to: JobState, **values: Any) -> None:  # noqa: ANN401 - columns
    """Move a locked job; raises SupersededError if it is no longer what it was."""
    changed = connection.execute(
        update(Job)
        .where(Job.id == job.id, Job.attempt == job.attempt, Job.state == job.state)
        .values(state=to, finished_at=db_now() if to in FINAL_JOB_STATES else None, **values)
    )
    if changed.rowcount != 1:
        raise SupersededError(f"job {job.id} moved on meanwhile")


def _end_attempt(
    connection: Connection,
    job: Row[Any],
    expected: AttemptState,
    to: AttemptState,
    error: ErrorInfo | None = None,
    **values: Any,  # noqa: ANN401 - columns
) -> None:
    if error is not None:
        values |= {name: text for name, text in _error_columns(error).items() if name != "error_detail"}
    changed = connection.execute(
        update(Attempt)
        .where(Attempt.job_id == job.id, Attempt.number == job.attempt, Attempt.state == expected)
        .values(state=to, lease_until=None, finished_at=db_now(), **values)
    )
    if changed.rowcount != 1:
        raise SupersededError(f"attempt {job.attempt} of job {job.id} moved on meanwhile")


def _owned(connection: Connection, job_id: str, number: int, owner: str, done: AttemptState) -> Row[Any] | None:
    """Return the locked job whose running attempt is ours; None if we had already brought it to `done`."""
    job = _lock(connection, job_id)
    attempt = _attempt(connection, job_id, number)
    if attempt.owner == owner and attempt.state == done:
        return None
    if attempt.owner != owner or attempt.state != AttemptState.RUNNING or job.attempt != number:
        raise SupersededError(f"attempt {number} of job {job_id} no longer belongs to this worker ({attempt.state})")
    return job


# --- the scheduler's moves -------------------------------------------------------------------------------------------


def enqueue(connection: Connection, job_id: str, *, content_key: str, toolchain: str | None) -> bool:
    """`waiting` -> `queued`: every input is there, also after a retry that has just had one made again."""
    job = _lock(connection, job_id)
    if job.state != JobState.WAITING or not _has_inputs(connection, job_id):
        return False
    _move(connection, job, JobState.QUEUED, content_key=content_key, toolchain=toolchain, queued_at=db_now(), reason="")
    return True


def _has_inputs(connection: Connection, job_id: str) -> bool:
    missing = (
        select(JobInput.job_id)
        .join(Job, Job.id == JobInput.parent_id)
        .where(JobInput.job_id == job_id, Job.state != JobState.SUCCEEDED)
    )
    return connection.execute(missing.limit(1)).first() is None


def reuse(connection: Connection, job_id: str, *, content_key: str, twin_id: str) -> bool:
    """`waiting` -> `succeeded` with the outputs of an equal job."""
    job = _lock(connection, job_id)
    if job.state != JobState.WAITING:
        return False
    twin = connection.execute(select(Job.outputs, Job.facts, Job.state).where(Job.id == twin_id)).one()
    if twin.state != JobState.SUCCEEDED:
        return False
    _move(
        connection,
        job,
        JobState.SUCCEEDED,
        content_key=content_key,
        reused_from=twin_id,
        outputs=twin.outputs,
        facts=twin.facts,
        reason="",
    )
    return True


def note_reason(connection: Connection, job_id: str, reason: str) -> None:
    """Say in words why a job is not running yet."""
    connection.execute(
        update(Job)
        .where(Job.id == job_id, Job.state.in_([JobState.WAITING, JobState.QUEUED]), Job.reason != reason)
        .values(reason=reason)
    )


def give_up(connection: Connection, job_id: str, error: ErrorInfo) -> bool:
    """`waiting` or `queued` -> `failed`: it cannot be prepared, or no host is left that would take it."""
    job = _lock(connection, job_id)
    if job.state not in {JobState.WAITING, JobState.QUEUED}:
        return False
    _move(connection, job, JobState.FAILED, **_error_columns(error))
    return True


def follow_lead(connection: Connection, job_id: str) -> bool:
    """`waiting` or `queued` -> `succeeded` or `cancelled`: the job that it accompanied has ended, well or not."""
    lead = _held_still(connection, select(Job.lead_id).where(Job.id == job_id).scalar_subquery())
    job = _lock(connection, job_id)
    if job.state not in {JobState.WAITING, JobState.QUEUED} or lead.state not in FINAL_JOB_STATES:
        return False
    reason = f"{lead.label}, which it accompanied, is {lead.state}"
    if lead.state == JobState.SUCCEEDED:  # what came of it is that job's
        _move(connection, job, JobState.SUCCEEDED, reused_from=job.lead_id, reason=reason, **_NO_ERROR)
    else:
        _move(connection, job, JobState.CANCELLED, reason=reason)
    return True


def give_up_lead(connection: Connection, job_id: str, companion_id: str, error: ErrorInfo) -> bool:
    """`waiting` or `queued` -> `failed`: a job that it leads will not come, unless a person has just retried that."""
    if _held_still(connection, companion_id).state not in _RETRYABLE:
        return False
    return give_up(connection, job_id, error)


def _held_still(connection: Connection, job_id: str | ScalarSelect[str | None]) -> Row[JobState, str]:
    """Return the state and label of a job that decides another's end; a person's retry of it must not cross that."""
    return connection.execute(select(Job.state, Job.label).where(Job.id == job_id).with_for_update(read=True)).one()


def skip_doomed(connection: Connection, limit: int = 1000) -> int:
    """`waiting` -> `skipped` for jobs with an input that will not come; returns how many."""
    parent = Job.__table__.alias("parent")
    doomed = connection.execute(
        select(Job.id, Job.attempt, Job.state, parent.c.label, parent.c.state.label("parent_state"))
        .join(JobInput, JobInput.job_id == Job.id)
        .join(parent, parent.c.id == JobInput.parent_id)
        .where(JOB_IS_OPEN, Job.state == JobState.WAITING, parent.c.state.in_(_RETRYABLE))
        .order_by(Job.id)
        .limit(limit)
        .with_for_update(read=True, of=parent)  # a person's retry of the parent must not cross this
    ).all()
    return sum(
        connection.execute(
            update(Job)
            .where(Job.id == job.id, Job.state == JobState.WAITING)
            .values(state=JobState.SKIPPED, finished_at=db_now(), reason=f"{job.label} is {job.parent_state}")
        ).rowcount
        for job in {row.id: row for row in doomed}.values()
    )


def dispatch(connection: Connection, job_id: str, attempt: int, device_id: str) -> bool:
    """`queued` -> `dispatched`: give a job to a device and raise the fence; `attempt` is the number before."""
    job = _lock(connection, job_id)
    if job.state != JobState.QUEUED or job.attempt != attempt or job.pinned_device not in {None, device_id}:
        return False
    _move(connection, job, JobState.DISPATCHED, attempt=attempt + 1, device_id=device_id, reason="")
    connection.execute(
        insert(Attempt).values(
            job_id=job_id,
            number=attempt + 1,
            device_id=device_id,
            state=AttemptState.DISPATCHED,
            created_at=db_now(),
        )
    )
    return True


def are_free(connection: Connection, device_ids: Collection[str]) -> bool:
    """Tell whether devices have nothing, not even something ahead; until the end of this transaction for who asks so.

    Two schedulers that gave the chips of one card to two measurements might do it in crossed order, and each would wait
    on one chip for what is behind the other.
    """
    wanted = sorted(device_ids)
    connection.execute(
        select(Device.id).where(Device.id.in_(wanted)).order_by(Device.id).with_for_update(key_share=True)
    )
    has = select(Attempt.job_id).where(Attempt.device_id.in_(wanted), ATTEMPT_IS_ACTIVE)
    return connection.execute(has.limit(1)).first() is None


def mark_published(connection: Connection, sent: Iterable[tuple[str, int]]) -> None:
    """Note that the doorbells of these attempts were rung (again)."""
    for job_id, number in sent:
        connection.execute(
            update(Attempt)
            .where(Attempt.job_id == job_id, Attempt.number == number, Attempt.state == AttemptState.DISPATCHED)
            .values(published_at=db_now(), publishes=Attempt.publishes + 1)
        )


def withdraw(connection: Connection, job_id: str, attempt: int, reason: str, *, avoid: bool = False) -> bool:
    """`dispatched` -> `queued`: take an attempt back that nobody claimed.

    `avoid`: its device does not answer; while there are others they are to be tried first.
    """
    job = _lock(connection, job_id)
    if job.state != JobState.DISPATCHED or job.attempt != attempt:
        return False
    _end_attempt(connection, job, AttemptState.DISPATCHED, AttemptState.WITHDRAWN)
    avoided = sorted({*job.avoid_devices, job.device_id}) if avoid else list(job.avoid_devices)
    _move(connection, job, JobState.QUEUED, reason=reason, avoid_devices=avoided)
    return True


def lose(connection: Connection, job_id: str, attempt: int, beats: int, error: ErrorInfo, decision: Decision) -> bool:
    """`running` -> `queued`, `held` or `cancelled`: the attempt is lost.

    `beats` is the counter that stood still; one more beat in between and nothing happens.
    """
    job = _lock(connection, job_id)
    held = _attempt(connection, job_id, attempt)
    if job.state != JobState.RUNNING or job.attempt != attempt or held.beats != beats:
        return False
    _end_attempt(connection, job, AttemptState.RUNNING, AttemptState.LOST, error)
    _forget_log(connection, job_id, attempt)
    if job.cancel_requested:
        _move(connection, job, JobState.CANCELLED)
    else:
        _after_error(connection, job, held.device_id, error, decision)
    return True


# --- the worker's moves ----------------------------------------------------------------------------------------------


def claim(
    connection: Connection, job_id: str, attempt: int, *, owner: str, devices: Sequence[str], lease_seconds: float
) -> str:
    """`dispatched` -> `running`: take the attempt for one of the worker's devices; returns the device id.

    Raises:
        SupersededError: another attempt, another device, withdrawn, cancelled, or its device is still running a job.
    """
    job = _lock(connection, job_id)
    found = _attempt(connection, job_id, attempt)
    if found.owner == owner and found.state == AttemptState.RUNNING:
        return str(found.device_id)
    sick = connection.execute(select(Device.state).where(Device.id == found.device_id)).scalar_one()
    if sick == DeviceState.QUARANTINED:
        raise SupersededError(f"{found.device_id} is quarantined and takes nothing")
    if found.device_id not in devices:
        raise SupersededError(f"attempt {attempt} of job {job_id} belongs to {found.device_id}, not to this worker")
    busy = Attempt.__table__.alias("busy")
    take = (
        update(Attempt)
        .where(
            Attempt.job_id == job_id,
            Attempt.number == attempt,
            Attempt.state == AttemptState.DISPATCHED,
            ~exists().where(busy.c.device_id == found.device_id, busy.c.state == AttemptState.RUNNING),
        )
        .values(
            state=AttemptState.RUNNING, owner=owner, lease_until=db_now(lease_seconds), started_at=db_now(), beats=1
        )
    )
    try:
        claimed = connection.execute(take)
    except IntegrityError as error:  # another claim of this device was committed while this one waited for it
        raise SupersededError(f"{found.device_id} has just begun another job") from error
    if claimed.rowcount != 1 or job.state != JobState.DISPATCHED or job.attempt != attempt or job.cancel_requested:
        raise SupersededError(f"attempt {attempt} of job {job_id} is not to be had ({found.state}, job {job.state})")
    _move(connection, job, JobState.RUNNING, started_at=db_now(), reason="")
    return str(found.device_id)


def beat(
    connection: Connection,
    job_id: str,
    attempt: int,
    *,
    owner: str,
    lease_seconds: float,
    progress: Mapping[str, Any] | None = None,
) -> BeatReply:
    """Renew a lease; returns what the worker must know. Raises SupersededError when the attempt is not ours."""
    beaten = connection.execute(
        update(Attempt)
        .where(
            Attempt.job_id == job_id,
            Attempt.number == attempt,
            Attempt.owner == owner,
            Attempt.state == AttemptState.RUNNING,
        )
        .values(
            lease_until=db_now(lease_seconds),
            beats=Attempt.beats + 1,
            **({} if progress is None else {"progress": dict(progress)}),
        )
    )
    if beaten.rowcount != 1:
        raise SupersededError(f"attempt {attempt} of job {job_id} no longer belongs to this worker")
    row = connection.execute(
        select(Job.cancel_requested, Device.state, Device.state_cause)
        .join(Attempt, (Attempt.job_id == Job.id) & (Attempt.number == attempt))
        .join(Device, Device.id == Attempt.device_id)
        .where(Job.id == job_id)
    ).one()
    gone = row.state == DeviceState.LOST and row.state_cause == DeviceCause.VANISHED
    return BeatReply(
        cancel=row.cancel_requested,
        drain=row.state == DeviceState.DRAINING,
        evict=gone or row.state == DeviceState.QUARANTINED,
    )


def succeed(connection: Connection, job_id: str, attempt: int, *, owner: str, completion: Completion) -> None:
    """`running` -> `succeeded`: outputs, artifacts, result and metrics in one transaction. Raises SupersededError."""
    job = _owned(connection, job_id, attempt, owner, AttemptState.SUCCEEDED)
    if job is None:
        return
    artifacts.record(connection, completion.artifacts)
    _end_attempt(connection, job, AttemptState.RUNNING, AttemptState.SUCCEEDED, log_digest=completion.log_digest)
    stored = {role: list(digests) for role, digests in completion.outputs.items()}
    _move(connection, job, JobState.SUCCEEDED, outputs=stored, facts=dict(completion.facts), **_NO_ERROR)
    if completion.result is not None:
        results.insert_result(connection, job, completion.result)
    _forget_log(connection, job_id, attempt)


def fail(
    connection: Connection,
    job_id: str,
    attempt: int,
    *,
    owner: str,
    error: ErrorInfo,
    decision: Decision,
    log: NewArtifact | None = None,
) -> None:
    """`running` -> `queued`, `failed` or `held`, as decided. Raises SupersededError."""
    job = _owned(connection, job_id, attempt, owner, AttemptState.FAILED)
    if job is None:
        return
    artifacts.record(connection, [log] if log else [])
    held = _attempt(connection, job_id, attempt)
    _end_attempt(connection, job, AttemptState.RUNNING, AttemptState.FAILED, error, log_digest=log and log.digest)
    _forget_log(connection, job_id, attempt)
    if job.cancel_requested:
        _move(connection, job, JobState.CANCELLED)
    else:
        _after_error(connection, job, held.device_id, error, decision)


def finish_cancel(
    connection: Connection,
    job_id: str,
    attempt: int,
    *,
    owner: str,
    log: NewArtifact | None = None,
) -> None:
    """`running` -> `cancelled`: its processes are gone. Raises SupersededError."""
    job = _owned(connection, job_id, attempt, owner, AttemptState.CANCELLED)
    if job is None:
        return
    artifacts.record(connection, [log] if log else [])
    _end_attempt(connection, job, AttemptState.RUNNING, AttemptState.CANCELLED, log_digest=log and log.digest)
    _forget_log(connection, job_id, attempt)
    _move(connection, job, JobState.CANCELLED)


def release(connection: Connection, job_id: str, attempt: int, *, owner: str, reason: str) -> None:
    """`running` -> `queued`, handed back unharmed; burns no budget. Raises SupersededError."""
    job = _owned(connection, job_id, attempt, owner, AttemptState.RELEASED)
    if job is None:
        return
    _end_attempt(connection, job, AttemptState.RUNNING, AttemptState.RELEASED)
    _forget_log(connection, job_id, attempt)
    _move(connection, job, JobState.CANCELLED if job.cancel_requested else JobState.QUEUED, reason=reason)


def _after_error(connection: Connection, job: Row[Any], device_id: str, error: ErrorInfo, decision: Decision) -> None:
    avoid, refused = list(job.avoid_devices), list(job.refused_hosts)
    if decision.avoid_device:
        avoid = sorted({*avoid, device_id})
    if decision.refuse_host:
        host = connection.execute(select(Device.host_id).where(Device.id == device_id)).scalar_one()
        refused = sorted({*refused, host})
    _move(
        connection,
        job,
        decision.state,
        failures=decision.failures,
        losses=decision.losses,
        not_before=db_now(decision.delay_seconds) if decision.delay_seconds else None,
        avoid_devices=avoid,
        refused_hosts=refused,
        reason=storable(error.message) if decision.state == JobState.QUEUED else "",
        **_error_columns(error),
    )


def _forget_log(connection: Connection, job_id: str, attempt: int) -> None:
    connection.execute(delete(LogChunk).where(LogChunk.job_id == job_id, LogChunk.attempt == attempt))


# --- people's moves --------------------------------------------------------------------------------------------------


def request_cancel(connection: Connection, job_id: str) -> JobState:
    """Cancel a job: at once if nobody runs it, else through the worker's next beat; returns its state afterwards.

    With it go the jobs that run at the same time on the other chips of the card.
    """
    lead = connection.execute(select(Job.lead_id).where(Job.id == job_id)).scalar()
    together = [job_id] if lead is None else connection.execute(select(Job.id).where(Job.lead_id == lead)).scalars()
    return {each: _cancel(connection, each) for each in sorted(together)}[job_id]


def _cancel(connection: Connection, job_id: str) -> JobState:
    job = _lock(connection, job_id)
    if job.state in FINAL_JOB_STATES:
        return JobState(job.state)
    if job.state == JobState.RUNNING:
        connection.execute(update(Job).where(Job.id == job_id).values(cancel_requested=True))
        return JobState.RUNNING
    if job.state == JobState.DISPATCHED:
        _end_attempt(connection, job, AttemptState.DISPATCHED, AttemptState.CANCELLED)
    _move(connection, job, JobState.CANCELLED, cancel_requested=True)
    return JobState.CANCELLED


def retry(connection: Connection, job_id: str) -> list[str]:
    """Send a final, unsuccessful job and everything skipped because of it back to `waiting`; returns their ids.

    Raises:
        InvalidRequestError: a job of the same card is still being cancelled, and would take this one with it.
    """
    job = connection.execute(select(Job.run_id, Job.lead_id).where(Job.id == job_id)).one()
    ending = select(Job.id).where(Job.lead_id == job.lead_id, Job.state == JobState.RUNNING, Job.cancel_requested)
    if job.lead_id is not None and connection.execute(ending.limit(1)).first() is not None:
        raise InvalidRequestError(
            f"a job that runs on the same card as {job_id} is still being cancelled; try again in a few seconds"
        )
    return retry_many(connection, job.run_id, [job_id])


def retry_many(connection: Connection, run_id: str, job_ids: Sequence[str]) -> list[str]:
    """Send jobs of a run, and everything skipped because of them, back to `waiting`; returns those that moved.

    Level by level, with one statement for each some hundred jobs: a run may have ten thousands.
    """
    # The run first: a scheduler that settles it at the same moment must see the jobs move, or wait.
    connection.execute(select(Run.id).where(Run.id == run_id).with_for_update())
    moved: set[str] = set()
    level, wanted = set(job_ids), _RETRYABLE
    while level:
        back: set[str] = set()
        for some in batched(sorted(level)):
            back |= _send_back(connection, Job.id.in_(some), wanted)
        moved |= back
        moved |= _retry_card(connection, back)
        level, wanted = _skipped_children(connection, back) - moved, frozenset({JobState.SKIPPED})
    if moved:
        connection.execute(update(Run).where(Run.id == run_id).values(cancel_requested=False))
        connection.execute(
            update(Run)
            .where(Run.id == run_id, Run.state.in_(FINAL_RUN_STATES))
            .values(state=RunState.ACTIVE, finished_at=None, cancel_requested=False, reason="")
        )
    return sorted(moved)


def _send_back(connection: Connection, which: ColumnElement[bool], states: Collection[JobState]) -> set[str]:
    rows = connection.execute(
        update(Job)
        .where(which, Job.state.in_(states))
        .values(
            state=JobState.WAITING,
            finished_at=None,
            failures=0,
            losses=0,
            not_before=None,
            avoid_devices=[],
            refused_hosts=[],
            cancel_requested=False,
            reason="",
            **_NO_ERROR,
        )
        .returning(Job.id)
    )
    return set(rows.scalars())


def _retry_card(connection: Connection, jobs: set[str]) -> set[str]:
    """Send back what runs on the other chips of the card together with these jobs."""
    moved: set[str] = set()
    for some in batched(sorted(jobs)):
        leads = connection.execute(select(Job.lead_id).where(Job.id.in_(some), Job.lead_id.is_not(None)).distinct())
        moved |= _send_back(connection, Job.lead_id.in_(leads.scalars().all()), _RETRYABLE)
    return moved


def _skipped_children(connection: Connection, parents: set[str]) -> set[str]:
    found: set[str] = set()
    for some in batched(sorted(parents)):
        found |= set(
            connection.execute(
                select(JobInput.job_id)
                .join(Job, Job.id == JobInput.job_id)
                .where(JobInput.parent_id.in_(some), Job.state == JobState.SKIPPED)
            ).scalars()
        )
    return found
