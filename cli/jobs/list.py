"""`npuq jobs list`."""

from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from cli.options import Limit, Output
from cli.output import Format
from cli.session import open_session
from npuq.states import JobKind, JobState

EXAMPLES: Final = ("npuq jobs list --run @last", "npuq jobs list --state failed -o name")


def command(
    ctx: typer.Context,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only this run's jobs (or @last).")] = None,
    state: Annotated[JobState | None, typer.Option("--state", help="Only jobs in this state.")] = None,
    kind: Annotated[JobKind | None, typer.Option("--kind", help="Only jobs of this kind.")] = None,
    output: Output = Format.TABLE,
    limit: Limit = 1000,
) -> None:
    """List jobs in the order of their plans, newest runs first."""
    from cli.ids import find_run
    from cli.output import show_many
    from cli.views import jobs_view
    from db import job_queries

    with open_session(ctx) as session, session.read() as connection:
        run_id = None if run is None else find_run(connection, run, session.waiting()).run_id
        found = job_queries.find(connection, run_id=run_id, state=state, kind=kind, limit=limit + 1)
    show_many(found, jobs_view(datetime.now(UTC)), output, limit)
