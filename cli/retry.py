"""`npuq retry`."""

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import typer

from cli.options import Targets
from cli.session import open_session

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from cli.ids import Target
    from db.lost_outputs import Lost

EXAMPLES: Final = ("npuq retry @last", "npuq retry 3f2a9c01")


def command(ctx: typer.Context, targets: Targets) -> None:
    """Send failed, held, cancelled and skipped jobs back to the queue: one job with what hung on it, or a whole run.

    What they take and the store has lost is made again first.
    """
    from cli.ids import find_target

    with open_session(ctx) as session:
        for text in targets:
            with session.read() as connection:
                target = find_target(connection, text, session.waiting())
                lost = _find_lost(connection, target, session.client.store.exists)
            sys.stderr.write(f"{session.transact(partial(_retry, target=target, lost=lost))}\n")


def _find_lost(connection: "Connection", target: "Target", is_stored: Callable[[str], bool]) -> "Lost":
    """Return what the jobs that are to be tried again need and the store lacks.

    Raises:
        NotFoundError: some of it was uploaded: nobody but a person has it.
    """
    from cli.ids import SHORT_JOB
    from db import job_queries, lost_outputs
    from npuq.errors import NotFoundError

    jobs = [target.job] if target.job else job_queries.find(connection, run_id=target.run.run_id)
    lost = lost_outputs.find(connection, jobs, is_stored)
    if lost.uploaded:
        role, digest = lost.uploaded[0]
        source = target.run.spec["source"]
        name = f" ({source['name']})" if source["digest"] == digest else ""
        raise NotFoundError(
            f"the store has lost the {role}{name} of this run, digest {digest[:SHORT_JOB]}; "
            "submit the same file again, which uploads it, and then retry"
        )
    return lost


def _retry(connection: "Connection", target: "Target", lost: "Lost") -> str:
    """Retry a run or a job; returns what was done, for a person."""
    from cli.words import counted
    from db import jobs, lost_outputs, runs

    run_id = target.run.run_id
    if target.job is None and runs.plan_again(connection, run_id):
        return f"run {run_id}: planned again"
    made_again = lost_outputs.make_again(connection, run_id, lost) if lost.made else []
    moved = runs.retry(connection, run_id) if target.job is None else jobs.retry(connection, target.job.job_id)
    back = f"{counted(len(moved), 'job')} tried again" if moved else "nothing to try again"
    first = f", after what the store has lost: {', '.join(made_again)}" if made_again else ""
    return f"run {run_id}: {back}{first}"
