"""`npuq cancel`."""

import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

import typer

from cli.options import Targets
from cli.session import open_session
from npuq.errors import DatabaseError
from npuq.states import JobState

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from cli.ids import Target
    from cli.session import Session
    from npuq.specs import RunSpec

EXAMPLES: Final = ("npuq cancel @last", "npuq cancel 3f2a9c01 77b0e4d2")


def command(ctx: typer.Context, targets: Targets) -> None:
    """Cancel runs or jobs: at once what waits, within seconds what runs.

    A submission that the fleet has not taken yet is taken back.
    """
    from cli.ids import find_target_or_submission
    from npuq.specs import RunSpec

    with open_session(ctx) as session:
        session.keep_outbox()  # what is to be taken back must not be sent by looking for it
        for text in targets:
            found = find_target_or_submission(session, text)
            if isinstance(found, RunSpec):
                told = _take_back(session, found)
            else:
                told = _in_words(*session.transact(partial(_cancel, target=found)))
            sys.stderr.write(f"{told}\n")


def _take_back(session: "Session", spec: "RunSpec") -> str:
    """Cancel a submission of the outbox; returns what was done. Raises DatabaseError when the fleet may have it."""
    try:
        session.transact(partial(_accept_and_cancel, spec=spec))
    except DatabaseError:
        if not session.client.take_back(spec):
            raise
        return f"run {spec.run_id}: taken out of the outbox, nothing had been sent"
    session.client.deliver(spec)  # finds it in the database
    return f"run {spec.run_id}: cancelled before a scheduler had taken it"


def _accept_and_cancel(connection: "Connection", spec: "RunSpec") -> None:
    """Cancel a run in the database, whoever puts it there first: its message may be on the way."""
    from db import runs

    runs.accept(connection, spec)
    runs.cancel(connection, spec.run_id)


def _cancel(connection: "Connection", target: "Target") -> tuple[str, Mapping[JobState, int]]:
    """Cancel a run or a job; returns what it is called and the states its jobs had afterwards, counted."""
    from db import jobs, runs

    if target.job is None:
        return f"run {target.run.run_id}", runs.cancel(connection, target.run.run_id)
    return f"job {target.job.job_id}", {jobs.request_cancel(connection, target.job.job_id): 1}


def _in_words(name: str, after: Mapping[JobState, int]) -> str:
    from cli.views import counts_in_words

    told = counts_in_words(after) if after else "cancelled, or over already"
    ending = "; what runs ends with its worker's next beat" if JobState.RUNNING in after else ""
    return f"{name}: {told}{ending}"
