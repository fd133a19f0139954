"""`npuq db upgrade`."""

import sys
from typing import Final

import typer

from cli.session import open_session

EXAMPLES: Final = ("npuq db upgrade",)


def command(ctx: typer.Context) -> None:
    """Bring the database, empty or older, to this version's schema; running it twice changes nothing."""
    from db import schema

    with open_session(ctx) as session:
        database = session.client.database
        before = schema.current_revision(database)
        schema.upgrade(database)
        after = schema.current_revision(database)
    if before == after:
        sys.stderr.write(f"the schema is up to date ({after})\n")
    else:
        sys.stderr.write(f"schema {before or 'empty'} -> {after}\n")
