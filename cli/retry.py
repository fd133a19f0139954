"""`npuq retry`."""

import sys

import typer

from cli.options import Targets
from cli.session import open_session


def command(ctx: typer.Context, targets: Targets) -> None:
    """Send failed, held, cancelled and skipped jobs back to the queue: one job with what hung on it, or a whole run."""
    from cli.ids import find_target
    from cli.words import counted
    from db import jobs, runs

    with open_session(ctx) as session:
        for text in targets:
            with session.write() as connection:
                target = find_target(connection, text)
                if target.job is None:
                    moved = runs.retry(connection, target.run.run_id)
                else:
                    moved = jobs.retry(connection, target.job.job_id)
            back = f"{counted(len(moved), 'job')} tried again" if moved else "nothing to try again"
            sys.stderr.write(f"run {target.run.run_id}: {back}\n")
