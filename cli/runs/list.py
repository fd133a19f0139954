"""`npuq runs list`."""

from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from cli.options import Limit, Output
from cli.output import Format
from cli.session import NO_FLEET, open_session
from npuq.errors import DatabaseError

EXAMPLES: Final = ("npuq runs list --open", "npuq runs list --recipe mobilenet_v1 -o json")


def command(
    ctx: typer.Context,
    *,
    output: Output = Format.TABLE,
    limit: Limit = 50,
    only_open: Annotated[bool, typer.Option("--open", help="Only runs that are not over.")] = False,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Only runs of this recipe.")] = None,
) -> None:
    """List runs, newest first, with what this machine submitted and the fleet has not taken yet."""
    from cli.outbox_runs import with_waiting
    from cli.output import show_many, tell
    from cli.views import runs_view
    from db import runs

    with open_session(ctx) as session:
        waiting = session.waiting()
        try:
            with session.read() as connection:
                found = runs.find(connection, limit=limit + 1, only_open=only_open, recipe=recipe)
                waiting = [spec for spec in waiting if runs.get(connection, spec.run_id) is None]
        except DatabaseError as error:
            if error.info.code != NO_FLEET or not waiting:
                raise
            tell(str(error))
            found = []
    show_many(with_waiting(found, waiting, recipe=recipe), runs_view(datetime.now(UTC)), output, limit)
