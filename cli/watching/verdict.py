"""The exit code that an end stands for: was anything wrong with what was asked for? Pure, over records."""

from collections.abc import Iterable

from db.records import JobRecord
from npuq.errors import Blame, ExitCode
from npuq.states import JobState, RunState

#: The states of jobs that have an error to show for it.
FAILED_STATES = (JobState.FAILED, JobState.HELD)


def exit_code(state: RunState | JobState, failed: Iterable[JobRecord]) -> int:
    """Return the exit code of a run or a job that is over.

    Args:
        state: how it ended.
        failed: its jobs that failed or are held; a job has itself.

    Returns:
        0 when it succeeded; 3 when it failed and each failure is a device's, a host's or the fleet's; 1 otherwise.
    """
    if state in {RunState.SUCCEEDED, JobState.SUCCEEDED}:
        return ExitCode.DONE
    errors = [job.error for job in failed if job.error is not None]
    if errors and all(error.blame is not Blame.INPUT for error in errors):
        return ExitCode.FLEET
    return ExitCode.FAILED
