"""`npuq runs list`."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.options import Limit, Output
from cli.output import Format
from cli.session import open_session


def command(
    ctx: typer.Context,
    *,
    output: Output = Format.TABLE,
    limit: Limit = 50,
    only_open: Annotated[bool, typer.Option("--open", help="Only runs that are not over.")] = False,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Only runs of this recipe.")] = None,
) -> None:
    """List runs, newest first."""
    from cli.output import show_many
    from cli.views import runs_view
    from db import runs

    with open_session(ctx) as session, session.read() as connection:
        found = runs.find(connection, limit=limit, only_open=only_open, recipe=recipe)
    show_many(found, runs_view(datetime.now(UTC)), output)
