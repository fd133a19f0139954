"""How long a run may still take, from jobs that are over. Pure; None when that cannot be said honestly."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from db.records import JobRecord
from npuq.states import DEVICE_KIND_OF_JOB, FINAL_JOB_STATES, DeviceKind, JobKind, JobState

#: Below this share of a job its pace says nothing yet.
TRUSTED_SHARE: Final = 0.1
#: Jobs whose sizes can be compared: of one kind, and for benchmarks with a fixed number of loops or without.
_Sort = tuple[JobKind, bool]


def remaining_seconds(
    jobs: Sequence[JobRecord],
    *,
    shares: Mapping[str, float],
    slots: Mapping[DeviceKind, int],
    now: datetime,
    earlier: Sequence[JobRecord] = (),
) -> float | None:
    """Return an estimate of the seconds until a run ends.

    Chips and host slots work side by side, so the estimate is the longer of their queues, each shared evenly.

    Args:
        jobs: all jobs of the run.
        shares: id of a running job -> share of it that is done, 0 to 1.
        slots: how many devices of each kind work for the run.
        now: the moment that running jobs are looked at.
        earlier: jobs of other runs of the same recipe, for kinds of which this run has none that is over.

    Returns:
        None when a job of some sort is open and none of its sort ever ended, when nothing can run, or when all that is
        left has taken longer than its like ever did.
    """
    paces = _seconds_per_unit(earlier) | _seconds_per_unit(jobs)
    queues: dict[DeviceKind, float] = {}
    for job in jobs:
        if job.state in FINAL_JOB_STATES:
            continue
        left = _left(job, shares.get(job.job_id, 0.0), paces.get(_sort_of(job)), now)
        kind = DEVICE_KIND_OF_JOB[job.kind]
        if left is None or not slots.get(kind):
            return None
        queues[kind] = queues.get(kind, 0.0) + left
    if not queues:
        return 0.0
    return max(seconds / slots[kind] for kind, seconds in queues.items()) or None


def _left(job: JobRecord, share: float, pace: float | None, now: datetime) -> float | None:
    worked = 0.0
    if job.state is JobState.RUNNING and job.started_at is not None:
        worked = max(0.0, (now - job.started_at).total_seconds())
        if share >= TRUSTED_SHARE:
            return worked * (1 - share) / share
    return None if pace is None else max(0.0, pace * units_of(job) - worked)


def _seconds_per_unit(jobs: Iterable[JobRecord]) -> dict[_Sort, float]:
    """Return the mean pace of each sort of job, from those that did the work themselves."""
    seconds: dict[_Sort, float] = {}
    units: dict[_Sort, int] = {}
    for job in jobs:
        if job.state is not JobState.SUCCEEDED or job.reused_from or not job.started_at or not job.finished_at:
            continue
        sort = _sort_of(job)
        seconds[sort] = seconds.get(sort, 0.0) + (job.finished_at - job.started_at).total_seconds()
        units[sort] = units.get(sort, 0) + units_of(job)
    return {sort: seconds[sort] / units[sort] for sort in seconds}


def _sort_of(job: JobRecord) -> _Sort:
    return job.kind, job.kind is JobKind.BENCHMARK and job.params.get("loops") is not None


def units_of(job: JobRecord) -> int:
    """Return the size of a job against others of its sort.

    A shard's samples; the samples that a benchmark of so many loops executes, warm-up included; else 1: a benchmark
    without a number of loops goes on until its median is sure.
    """
    if job.kind is JobKind.INFER:
        return max(1, int(job.params.get("stop", 1)) - int(job.params.get("start", 0)))
    if job.kind is JobKind.BENCHMARK and job.params.get("loops") is not None:
        executions = int(job.params["loops"]) + int(job.params.get("warmup", 0))
        return max(1, executions * int(job.params.get("batch_size", 1)))
    return 1
