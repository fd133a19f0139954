"""What people type for runs, jobs and devices: a unique beginning of an id, or `@last`.

A run is known from the moment of its submission: `@last` and ids stand for what still waits in the outbox, too. Only
some commands can do something with that (`find_target_or_submission`); to the others it is an error of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy import Connection

from db import devices, job_queries, results, runs
from db.records import DeviceRecord, JobRecord, ResultRecord, RunRecord
from npuq.errors import Blame, DatabaseError, NotFoundError
from npuq.specs import RunSpec

if TYPE_CHECKING:
    from cli.session import Session

T = TypeVar("T")

LAST: Final = "@last"

SHORT_RUN = 13  #: characters of a run id in tables: its whole time stamp
SHORT_JOB = 12  #: characters of a job or result id in tables


@dataclass(frozen=True, kw_only=True)
class Target:
    """A run, or one of its jobs."""

    run: RunRecord
    job: JobRecord | None


class WaitsInOutboxError(NotFoundError):
    """The run was submitted here, but the fleet has not taken it yet."""

    code = "in_outbox"
    blame = Blame.FLEET

    def __init__(self, spec: RunSpec) -> None:
        super().__init__(
            f"run {spec.run_id} still waits in the outbox: the fleet does not know it yet; "
            f"deliver it with: npuq watch {spec.run_id}"
        )
        self.spec = spec


def find_run(connection: Connection, text: str, waiting: Sequence[RunSpec]) -> RunRecord:
    """Return the run that a text stands for; `waiting` are the submissions in the outbox.

    Raises:
        NotFoundError: it stands for none, or for several.
        WaitsInOutboxError: it stands for a submission that the fleet does not know yet.
    """
    _refuse_nothing(text)
    error, found = _attempted(lambda: _find_run(connection, text))
    spec = find_submission(waiting, text)
    if spec is None or runs.get(connection, spec.run_id) is not None:
        return _found(error, found)
    if text == LAST:
        if found is None or found.submitted_at < spec.submitted_at:
            raise WaitsInOutboxError(spec)
        return found
    if found is not None:
        raise NotFoundError(f"{text!r} is not unique: it stands for {found.run_id}, and {spec.run_id} in the outbox")
    if error is not None and "not unique" in str(error):
        raise error
    raise WaitsInOutboxError(spec)


def _find_run(connection: Connection, text: str) -> RunRecord:
    run_id = runs.resolve(connection, text)
    return _found(NotFoundError(f"run {run_id} went away meanwhile"), runs.get(connection, run_id))


def _found(error: NotFoundError | None, found: T | None) -> T:
    if found is not None:
        return found
    raise error or NotFoundError("nothing was found")


def find_submission(waiting: Sequence[RunSpec], text: str) -> RunSpec | None:
    """Return the submission in the outbox that a text stands for; None when there is none.

    Raises:
        NotFoundError: it stands for several.
    """
    if text == LAST:
        return max(waiting, key=lambda spec: spec.submitted_at, default=None)
    found = [spec for spec in waiting if spec.run_id.startswith(text)]
    if len(found) > 1:
        names = ", ".join(spec.run_id for spec in found)
        raise NotFoundError(f"{text!r} is not unique: it stands for {names} in the outbox")
    return found[0] if found else None


def find_job(connection: Connection, text: str) -> JobRecord:
    """Return the job that a text stands for; raises NotFoundError."""
    _refuse_nothing(text)
    job_id = job_queries.resolve(connection, text)
    found = job_queries.get(connection, job_id)
    if found is None:
        raise NotFoundError(f"job {job_id} went away meanwhile")
    return found


def find_result(connection: Connection, text: str) -> ResultRecord:
    """Return the result that a text stands for; raises NotFoundError."""
    _refuse_nothing(text)
    found = results.by_prefix(connection, text)
    if len(found) != 1:
        problem = "is not unique" if found else "is no result"
        raise NotFoundError(f"{text!r} {problem}; see: npuq results list")
    return found[0]


def find_target(connection: Connection, text: str, waiting: Sequence[RunSpec]) -> Target:
    """Return the run or the job that a text stands for; `waiting` are the submissions in the outbox.

    Raises:
        NotFoundError: it is neither, or both.
        WaitsInOutboxError: it stands for a submission that the fleet does not know yet.
    """
    _refuse_nothing(text)
    run_error, run = _attempted(lambda: find_run(connection, text, waiting))
    job_error, job = (None, None) if text == LAST else _attempted(lambda: find_job(connection, text))
    if run is not None and job is not None:
        raise NotFoundError(f"{text!r} is not unique: both run {run.run_id} and job {job.job_id} begin with it")
    if run is not None:
        return Target(run=run, job=None)
    if job is not None:
        return Target(run=_find_run(connection, job.run_id), job=job)
    for error in (run_error, job_error):
        if error is not None and (isinstance(error, WaitsInOutboxError) or "not unique" in str(error)):
            raise error
    if text == LAST and run_error is not None:
        raise run_error
    raise NotFoundError(f"no run or job begins with {text!r}; see: npuq runs list, npuq jobs list")


def find_target_or_submission(session: "Session", text: str) -> Target | RunSpec:
    """Return the run, the job, or the submission in the outbox that a text stands for; works without a database, too.

    Raises:
        NotFoundError: it stands for nothing, or for several.
        DatabaseError: the database cannot be asked, and it is no submission of this machine.
    """
    return _find_or_submission(session, text, find_target)


def find_run_or_submission(session: "Session", text: str) -> RunRecord | RunSpec:
    """Return the run, or the submission in the outbox that a text stands for; else as `find_target_or_submission`."""
    return _find_or_submission(session, text, find_run)


def _find_or_submission(
    session: "Session", text: str, find: Callable[[Connection, str, Sequence[RunSpec]], T]
) -> T | RunSpec:
    _refuse_nothing(text)
    waiting = session.waiting()
    try:
        with session.read() as connection:
            return find(connection, text, waiting)
    except WaitsInOutboxError as error:
        return error.spec
    except DatabaseError:
        spec = find_submission(waiting, text)
        if spec is None:
            raise
        return spec


def _refuse_nothing(text: str) -> None:
    """Refuse the beginning that every id has: a script would cancel the only run there is."""
    if not text:
        raise NotFoundError("an empty id stands for nothing; was a variable of a script not set?")


def _attempted(find: Callable[[], T]) -> tuple[NotFoundError | None, T | None]:
    try:
        return None, find()
    except NotFoundError as error:
        return error, None


def find_device(connection: Connection, text: str, suspect_seconds: float) -> DeviceRecord:
    """Return the device whose id is, or alone begins with, a text; raises NotFoundError."""
    _refuse_nothing(text)
    return choose_device(devices.find(connection, suspect_seconds=suspect_seconds), text)


def choose_device(known: Sequence[DeviceRecord], text: str) -> DeviceRecord:
    """Return the one of the devices whose id is, or alone begins with, a text; raises NotFoundError."""
    exact = [device for device in known if device.device_id == text]
    found = exact or [device for device in known if device.device_id.startswith(text)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFoundError(f"no device begins with {text!r}; see: npuq devices list --all")
    raise NotFoundError(f"{text!r} is not unique: it stands for {', '.join(device.device_id for device in found)}")
