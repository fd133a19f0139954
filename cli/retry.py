"""`npuq retry`."""

import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import typer

from cli.options import Targets
from cli.session import open_session

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from cli.session import Session
    from db.lost_outputs import Lost
    from npuq.specs import RunSpec

EXAMPLES: Final = ("npuq retry @last", "npuq retry 3f2a9c01")


def command(ctx: typer.Context, targets: Targets) -> None:
    """Send failed, held, cancelled and skipped jobs back to the queue: one job with what hung on it, or a whole run.

    What they take and the store has lost is made again first.
    """
    with open_session(ctx) as session:
        for text in targets:
            lost = _find_lost(session, text)
            sys.stderr.write(f"{session.transact(partial(_retry, text=text, waiting=session.waiting(), lost=lost))}\n")


def _find_lost(session: "Session", text: str) -> "Lost":
    """Return what the jobs that an id stands for need and the store lacks.

    Raises:
        NotFoundError: some of it was uploaded: nobody but a person has it.
    """
    from cli.ids import SHORT_JOB, find_target
    from db import job_queries, lost_outputs
    from npuq.errors import NotFoundError

    store = session.client.store
    with session.read() as connection:
        target = find_target(connection, text, session.waiting())
        jobs = [target.job] if target.job else job_queries.find(connection, run_id=target.run.run_id)
        lost = lost_outputs.find(connection, jobs, store.exists)
    if lost.uploaded:
        role, digest = lost.uploaded[0]
        source = target.run.spec["source"]
        name = f" ({source['name']})" if source["digest"] == digest else ""
        raise NotFoundError(
            f"the store has lost the {role}{name} of this run, digest {digest[:SHORT_JOB]}; "
            "submit the same file again, which uploads it, and then retry"
        )
    return lost


def _retry(connection: "Connection", text: str, waiting: "Sequence[RunSpec]", lost: "Lost") -> str:
    """Retry what an id stands for; returns what was done, for a person."""
    from cli.ids import find_target
    from cli.words import counted
    from db import jobs, lost_outputs, runs

    target = find_target(connection, text, waiting)
    run_id = target.run.run_id
    if target.job is None and runs.plan_again(connection, run_id):
        return f"run {run_id}: planned again"
    made_again = lost_outputs.make_again(connection, run_id, lost) if lost.made else []
    moved = runs.retry(connection, run_id) if target.job is None else jobs.retry(connection, target.job.job_id)
    back = f"{counted(len(moved), 'job')} tried again" if moved else "nothing to try again"
    first = f", after what the store has lost: {', '.join(made_again)}" if made_again else ""
    return f"run {run_id}: {back}{first}"
