"""`npuq runs show`."""

from datetime import UTC, datetime
from typing import Final

import typer

from cli.options import Output, RunArgument
from cli.output import Format
from cli.session import open_session

EXAMPLES: Final = ("npuq runs show @last -o json",)


def command(ctx: typer.Context, run: RunArgument, output: Output = Format.TABLE) -> None:
    """Show one run and how many of its jobs stand where."""
    from cli.ids import find_run_or_submission
    from cli.outbox_runs import as_run
    from cli.output import show_one
    from cli.views import runs_view
    from npuq.specs import RunSpec

    with open_session(ctx) as session:
        found = find_run_or_submission(session, run)
    if isinstance(found, RunSpec):
        found = as_run(found)
    show_one(found, runs_view(datetime.now(UTC)), output)
