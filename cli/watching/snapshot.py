"""What there is to see of a run at a moment, as one frozen value: drawn by `live`, told by `lines`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select

from cli.watching.eta import remaining_seconds
from db import devices, job_queries, runs
from db.records import DeviceRecord, JobRecord, RunRecord
from db.types import db_now
from npuq.errors import NotFoundError
from npuq.states import ACTIVE_JOB_STATES, FINAL_JOB_STATES, DeviceKind, DeviceState, JobKind, JobState

EARLIER_JOBS: Final = 50
_SLOT_STATES: Final = frozenset({DeviceState.ONLINE, DeviceState.BUSY})


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a running job is: `done` of `total`, counted in `unit`."""

    done: int
    total: int
    unit: str

    @property
    def share(self) -> float:
        """Return the done share, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0


@dataclass(frozen=True, kw_only=True)
class Occupation:
    """What one device does for the run.

    Attributes:
        device: the device.
        job: what runs on it, or is on its way to it; None: nothing of this run.
        progress: of a running job, None when it has not said.
        rate: units per second since the job started, None when unknown.
    """

    device: DeviceRecord
    job: JobRecord | None
    progress: Progress | None
    rate: float | None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A run at a moment.

    Attributes:
        run: the run, with its jobs counted.
        jobs: all of them, in the order of the plan.
        occupations: one per chip, and per host slot that works for the run.
        remaining_seconds: estimate; None when unknown.
        taken_at: the moment, by the database's clock.
    """

    run: RunRecord
    jobs: Sequence[JobRecord]
    occupations: Sequence[Occupation]
    remaining_seconds: float | None
    taken_at: datetime

    @property
    def total(self) -> int:
        """Return the number of jobs."""
        return len(self.jobs)

    @property
    def over(self) -> int:
        """Return the number of jobs that are final."""
        return sum(job.state in FINAL_JOB_STATES for job in self.jobs)

    @property
    def done(self) -> float:
        """Return the number of jobs that are over, those that run counted by their share."""
        return self.over + sum(item.progress.share for item in self.occupations if item.progress is not None)

    @property
    def elapsed_seconds(self) -> float:
        """Return how long the run has been going, or went."""
        return ((self.run.finished_at or self.taken_at) - self.run.created_at).total_seconds()


def read_earlier(connection: Connection, run_id: str) -> list[JobRecord]:
    """Return some jobs of each kind that succeeded lately in other runs of a run's recipe; raises NotFoundError."""
    run = runs.get(connection, run_id)
    if run is None:
        raise NotFoundError(f"no run {run_id}; see: npuq runs list")
    recent = [
        job
        for kind in JobKind
        for job in job_queries.find(connection, kind=kind, state=JobState.SUCCEEDED, limit=EARLIER_JOBS)
    ]
    return [job for job in recent if job.recipe == run.recipe and job.run_id != run_id]


def read_snapshot(
    connection: Connection, run_id: str, *, suspect_seconds: float, earlier: Sequence[JobRecord] = ()
) -> Snapshot:
    """Return a run at this moment; `earlier` helps the estimate. Raises NotFoundError."""
    run = runs.get(connection, run_id)
    if run is None:
        raise NotFoundError(f"no run {run_id}; see: npuq runs list")
    now: datetime = connection.execute(select(db_now())).scalar_one()
    jobs = job_queries.find(connection, run_id=run_id)
    attempts = {attempt.job_id: attempt for attempt in job_queries.active_progress(connection, run_id)}
    progress = {job_id: found for job_id, item in attempts.items() if (found := read_progress(item.progress))}
    fleet = devices.find(connection, suspect_seconds=suspect_seconds)
    slots = {kind: sum(device.kind is kind and device.state in _SLOT_STATES for device in fleet) for kind in DeviceKind}
    shares = {job_id: found.share for job_id, found in progress.items()}
    return Snapshot(
        run=run,
        jobs=jobs,
        occupations=occupations(fleet, jobs, progress, now),
        remaining_seconds=remaining_seconds(jobs, shares=shares, slots=slots, now=now, earlier=earlier)
        if jobs
        else None,
        taken_at=now,
    )


def read_progress(data: Mapping[str, object] | None) -> Progress | None:
    """Return the progress that a worker noted; None when there is none that can be read."""
    if data is None:
        return None
    done, total, unit = data.get("done"), data.get("total"), data.get("unit")
    if isinstance(done, int) and isinstance(total, int) and isinstance(unit, str):
        return Progress(done=done, total=total, unit=unit)
    return None


def occupations(
    fleet: Sequence[DeviceRecord], jobs: Sequence[JobRecord], progress: Mapping[str, Progress], now: datetime
) -> list[Occupation]:
    """Return what each device does: all chips, and the host slots that work for the run."""
    on_device: dict[str, JobRecord] = {}
    for job in jobs:
        if job.state in ACTIVE_JOB_STATES and job.device_id is not None:
            holder = on_device.get(job.device_id)
            if holder is None or job.state is JobState.RUNNING:
                on_device[job.device_id] = job
    found = []
    for device in fleet:
        doing = on_device.get(device.device_id)
        if doing is None and (device.kind is DeviceKind.HOST or device.state is DeviceState.LOST):
            continue
        seen = None if doing is None else progress.get(doing.job_id)
        found.append(Occupation(device=device, job=doing, progress=seen, rate=_rate(doing, seen, now)))
    return found


def _rate(job: JobRecord | None, progress: Progress | None, now: datetime) -> float | None:
    if job is None or progress is None or job.started_at is None or not progress.done:
        return None
    seconds = (now - job.started_at).total_seconds()
    return progress.done / seconds if seconds > 0 else None
