"""`npuq wait`."""

import sys
import time
from typing import Annotated

import typer

from cli.options import Target
from cli.session import open_session
from npuq.errors import ExitCode


def command(
    ctx: typer.Context,
    target: Target = "@last",
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="90s|5m|2h", help="Give up waiting; exit code 4.")
    ] = None,
) -> int:
    """Wait until a run or a job is over; exit code 0 when it succeeded, 1 when it did not."""
    from cli.watching.waiting import find_awaited, wait_until_over
    from cli.words import parse_duration

    deadline = None if timeout is None else time.monotonic() + parse_duration(timeout).total_seconds()
    with open_session(ctx) as session:
        awaited = find_awaited(session, target)
        state = wait_until_over(session, awaited, deadline)
    name = f"job {awaited.job_id}" if awaited.job_id else f"run {awaited.run_id}"
    if state is None:
        sys.stderr.write(f"{name} is not over after {timeout}; it goes on\n")
        return ExitCode.TIMEOUT
    sys.stderr.write(f"{name} {state}\n")
    return ExitCode.DONE if state == "succeeded" else ExitCode.FAILED
