"""`npuq runs show`."""

from datetime import UTC, datetime

import typer

from cli.options import Output, RunArgument
from cli.output import Format
from cli.session import open_session


def command(ctx: typer.Context, run: RunArgument, output: Output = Format.TABLE) -> None:
    """Show one run and how many of its jobs stand where."""
    from cli.ids import find_run
    from cli.output import show_one
    from cli.views import runs_view

    with open_session(ctx) as session, session.read() as connection:
        found = find_run(connection, run)
    show_one(found, runs_view(datetime.now(UTC)), output)
