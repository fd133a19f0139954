"""`npuq cancel`."""

import sys

import typer

from cli.options import Targets
from cli.session import open_session
from npuq.states import JobState


def command(ctx: typer.Context, targets: Targets) -> None:
    """Cancel runs or jobs: at once what waits, within seconds what runs."""
    from cli.ids import find_target
    from cli.views import counts_in_words
    from db import jobs, runs

    with open_session(ctx) as session:
        for text in targets:
            with session.write() as connection:
                target = find_target(connection, text)
                if target.job is None:
                    name, after = f"run {target.run.run_id}", dict(runs.cancel(connection, target.run.run_id))
                else:
                    state = jobs.request_cancel(connection, target.job.job_id)
                    name, after = f"job {target.job.job_id}", {state: 1}
            told = counts_in_words(after) if after else "cancelled, or over already"
            ending = "; what runs ends with its worker's next beat" if JobState.RUNNING in after else ""
            sys.stderr.write(f"{name}: {told}{ending}\n")
