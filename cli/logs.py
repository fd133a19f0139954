"""`npuq logs`."""

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.options import Target
from cli.output import tell
from cli.session import open_session
from npuq.errors import ExitCode

if TYPE_CHECKING:
    from cli.ids import Target as Found

EXAMPLES: Final = ("npuq logs 3f2a9c01 --tail 50", "npuq logs @last --follow")


def command(
    ctx: typer.Context,
    target: Target = "@last",
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Write what comes, until it is over.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", min=0, help="Begin with the last so many lines.")] = None,
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, help="Of this try; default: the newest.")] = None,
) -> int:
    """Print the log of a job, or of all jobs of a run with the job's name before each line."""
    from cli import attempt_logs
    from cli.ids import find_target
    from db import job_queries

    with open_session(ctx) as session:
        with session.read() as connection:
            found = find_target(connection, target, session.waiting())
            jobs = [found.job] if found.job else job_queries.find(connection, run_id=found.run.run_id)
        writer = attempt_logs.LogWriter(session=session, prefixed=found.job is None, tail=tail)
        try:
            for job in jobs:
                writer.write_new(job, attempt)
            if follow:
                attempt_logs.follow(writer, found.run.run_id, [job.job_id for job in jobs])
        except KeyboardInterrupt:
            sys.stderr.write("\nlet go of the logs; the work goes on\n")
            return ExitCode.INTERRUPTED
    if not writer.written:
        tell(_why_empty(found))
    return ExitCode.DONE


def _why_empty(found: "Found") -> str:
    """Say why there is nothing to read: silence would look like a fault."""
    if found.job is None:
        return f"run {found.run.run_id} has no log: no job of it has written any; see: npuq why {found.run.run_id}"
    if found.job.reused_from and not found.job.accompanies:
        return f"{found.job.label} reused the outputs of an equal job, whose log is: npuq logs {found.job.reused_from}"
    return f"{found.job.label} is {found.job.state} and has written no log; see: npuq why {found.job.job_id}"
