"""A run as plain lines, for logs and pipes: one for each job that starts or ends, and one now and then. Pure."""

from collections.abc import Mapping, Sequence

from cli.views import counts_in_words
from cli.watching.live import timing, waiting_for
from cli.watching.snapshot import Snapshot
from cli.words import duration, one_line
from db.records import JobRecord
from npuq.states import FINAL_JOB_STATES, JobState

Seen = Mapping[str, tuple[JobState, int]]


def states_of(jobs: Sequence[JobRecord]) -> dict[str, tuple[JobState, int]]:
    """Return job id -> (state, attempt): what `changes` compares."""
    return {job.job_id: (job.state, job.attempt) for job in jobs}


def changes(before: Seen, snapshot: Snapshot) -> list[str]:
    """Return a line for every job that started or ended since `before`."""
    return [
        line
        for job in snapshot.jobs
        if before.get(job.job_id) != (job.state, job.attempt) and (line := _line(job)) is not None
    ]


def _line(job: JobRecord) -> str | None:
    where = f" on {job.device_id}" if job.device_id and not job.reused_from else ""
    if job.state is JobState.RUNNING:
        again = f" (try {job.attempt})" if job.attempt > 1 else ""
        return f"{job.label}: running{where}{again}"
    if job.state not in FINAL_JOB_STATES:
        return None
    if job.accompanies and job.reused_from:
        return f"{job.label}: its measurement is part of job {job.reused_from[:12]}"
    if job.reused_from:
        return f"{job.label}: reused from job {job.reused_from[:12]}"
    took = ""
    if job.started_at is not None and job.finished_at is not None:
        took = f" after {duration((job.finished_at - job.started_at).total_seconds())}"
    reason = f": {one_line(job.error.message, 300)}" if job.error else (f": {job.reason}" if job.reason else "")
    return f"{job.label}: {job.state}{where}{took}{reason}"


def summary(snapshot: Snapshot) -> str:
    """Return the whole run on a line."""
    if not snapshot.jobs:
        return f"run {snapshot.run.run_id}: {snapshot.run.state}, {waiting_for(snapshot)}"
    counts = counts_in_words(snapshot.run.jobs)
    return f"run {snapshot.run.run_id}: {snapshot.run.state}, {counts}, {timing(snapshot)}"
