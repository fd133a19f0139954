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

    from npuq.specs import RunSpec

EXAMPLES: Final = ("npuq retry @last", "npuq retry 3f2a9c01")


def command(ctx: typer.Context, targets: Targets) -> None:
    """Send failed, held, cancelled and skipped jobs back to the queue: one job with what hung on it, or a whole run."""
    from cli.words import counted

    with open_session(ctx) as session:
        for text in targets:
            run_id, moved = session.transact(partial(_retry, text=text, waiting=session.waiting()))
            if moved is None:
                back = "planned again"
            else:
                back = f"{counted(len(moved), 'job')} tried again" if moved else "nothing to try again"
            sys.stderr.write(f"run {run_id}: {back}\n")


def _retry(connection: "Connection", text: str, waiting: "Sequence[RunSpec]") -> tuple[str, list[str] | None]:
    """Retry what an id stands for; returns its run and the jobs that moved, None for a run that is planned again."""
    from cli.ids import find_target
    from db import jobs, runs

    target = find_target(connection, text, waiting)
    if target.job is None and runs.plan_again(connection, target.run.run_id):
        return target.run.run_id, None
    if target.job is None:
        return target.run.run_id, runs.retry(connection, target.run.run_id)
    return target.run.run_id, jobs.retry(connection, target.job.job_id)
