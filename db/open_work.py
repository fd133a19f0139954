"""What is left to do, in one cheap question: the scheduler asks it at every tick, and most ticks find nothing."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, exists, select

from db import runs
from db.tables import JOB_IS_OPEN, RUN_IS_OPEN, Job, Run
from npuq.states import JobState, RunState


@dataclass(frozen=True, kw_only=True)
class OpenWork:
    """Which kinds of work there are.

    Attributes:
        submitted_runs: runs that are not planned yet.
        settled_runs: active runs whose jobs are all final.
        waiting_jobs: jobs that wait for an input, or for equal work.
        queued_jobs: jobs that wait for a device.
    """

    submitted_runs: bool
    settled_runs: bool
    waiting_jobs: bool
    queued_jobs: bool

    @property
    def unfinished_jobs(self) -> bool:
        """Whether a job waits for anything."""
        return self.waiting_jobs or self.queued_jobs

    @property
    def any(self) -> bool:
        """Whether the scheduler has anything to do but to look after what is under way."""
        return self.submitted_runs or self.settled_runs or self.unfinished_jobs


#: Made once: making it takes longer than asking.
_QUESTION: Final = select(
    exists().where(RUN_IS_OPEN, Run.state == RunState.SUBMITTED).label("submitted_runs"),
    exists().where(runs.SETTLED).label("settled_runs"),
    exists().where(JOB_IS_OPEN, Job.state == JobState.WAITING).label("waiting_jobs"),
    exists().where(JOB_IS_OPEN, Job.state == JobState.QUEUED).label("queued_jobs"),
)


def look(connection: Connection) -> OpenWork:
    """Return which kinds of work there are now."""
    row = connection.execute(_QUESTION).one()
    return OpenWork(
        submitted_runs=bool(row.submitted_runs),
        settled_runs=bool(row.settled_runs),
        waiting_jobs=bool(row.waiting_jobs),
        queued_jobs=bool(row.queued_jobs),
    )
