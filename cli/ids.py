"""What people type for runs, jobs and devices: a unique beginning of an id, or `@last`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection

from db import devices, job_queries, runs
from db.records import DeviceRecord, JobRecord, RunRecord
from npuq.errors import NotFoundError

T = TypeVar("T")

SHORT_RUN = 13  #: characters of a run id in tables: its whole time stamp
SHORT_JOB = 12  #: characters of a job or result id in tables


@dataclass(frozen=True, kw_only=True)
class Target:
    """A run, or one of its jobs."""

    run: RunRecord
    job: JobRecord | None


def find_run(connection: Connection, text: str) -> RunRecord:
    """Return the run that a text stands for; raises NotFoundError."""
    run_id = runs.resolve(connection, text)
    found = runs.get(connection, run_id)
    if found is None:
        raise NotFoundError(f"run {run_id} went away meanwhile")
    return found


def find_job(connection: Connection, text: str) -> JobRecord:
    """Return the job that a text stands for; raises NotFoundError."""
    job_id = job_queries.resolve(connection, text)
    found = job_queries.get(connection, job_id)
    if found is None:
        raise NotFoundError(f"job {job_id} went away meanwhile")
    return found


def find_target(connection: Connection, text: str) -> Target:
    """Return the run or the job that a text stands for; raises NotFoundError when it is neither, or both."""
    run_error, run = _attempted(lambda: find_run(connection, text))
    job_error, job = (None, None) if text == "@last" else _attempted(lambda: find_job(connection, text))
    if run is not None and job is not None:
        raise NotFoundError(f"{text!r} is not unique: both run {run.run_id} and job {job.job_id} begin with it")
    if run is not None:
        return Target(run=run, job=None)
    if job is not None:
        return Target(run=find_run(connection, job.run_id), job=job)
    for error in (run_error, job_error):
        if error is not None and "not unique" in str(error):
            raise error
    if text == "@last" and run_error is not None:
        raise run_error
    raise NotFoundError(f"no run or job begins with {text!r}; see: npuq runs list, npuq jobs list")


def _attempted(find: Callable[[], T]) -> tuple[NotFoundError | None, T | None]:
    try:
        return None, find()
    except NotFoundError as error:
        return error, None


def find_device(connection: Connection, text: str, suspect_seconds: float) -> DeviceRecord:
    """Return the device whose id is, or alone begins with, a text; raises NotFoundError."""
    known = devices.find(connection, suspect_seconds=suspect_seconds)
    exact = [device for device in known if device.device_id == text]
    found = exact or [device for device in known if device.device_id.startswith(text)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFoundError(f"no device begins with {text!r}; see: npuq devices list --all")
    raise NotFoundError(f"{text!r} is not unique: it stands for {', '.join(device.device_id for device in found)}")
