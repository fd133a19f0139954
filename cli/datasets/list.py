"""`npuq datasets list`."""

from datetime import UTC, datetime
from typing import Final

import typer

from cli.options import Output
from cli.output import Format
from cli.session import open_session

EXAMPLES: Final = ("npuq datasets list",)


def command(ctx: typer.Context, output: Output = Format.TABLE) -> None:
    """List the registered datasets."""
    from cli.output import show_many
    from cli.views import datasets_view
    from db import datasets

    with open_session(ctx) as session, session.read() as connection:
        found = datasets.find(connection)
    show_many(found, datasets_view(datetime.now(UTC)), output)
