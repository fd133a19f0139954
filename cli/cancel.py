"""`npuq cancel`."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import typer

from cli.options import Targets
from cli.session import open_session
from npuq.states import JobState

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from npuq.specs import RunSpec

EXAMPLES: Final = ("npuq cancel @last", "npuq cancel 3f2a9c01 77b0e4d2")


def command(ctx: typer.Context, targets: Targets) -> None:
    """Cancel runs or jobs: at once what waits, within seconds what runs."""
    from cli.views import counts_in_words

    with open_session(ctx) as session:
        for text in targets:
            name, after = session.transact(partial(_cancel, text=text, waiting=session.waiting()))
            told = counts_in_words(after) if after else "cancelled, or over already"
            ending = "; what runs ends with its worker's next beat" if JobState.RUNNING in after else ""
            sys.stderr.write(f"{name}: {told}{ending}\n")


def _cancel(connection: "Connection", text: str, waiting: "Sequence[RunSpec]") -> tuple[str, Mapping[JobState, int]]:
    """Cancel what an id stands for; returns what it is called and the states its jobs had afterwards, counted."""
    from cli.ids import find_target
    from db import jobs, runs

    target = find_target(connection, text, waiting)
    if target.job is None:
        return f"run {target.run.run_id}", runs.cancel(connection, target.run.run_id)
    return f"job {target.job.job_id}", {jobs.request_cancel(connection, target.job.job_id): 1}
