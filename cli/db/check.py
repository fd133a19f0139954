"""`npuq db check`."""

import sys
from typing import Final

import typer

from cli.session import open_session
from npuq.errors import ExitCode

EXAMPLES: Final = ("npuq db check",)


def command(ctx: typer.Context) -> int:
    """Check that the database has this version's schema, to the last column; exit code 1 when it differs."""
    from db import schema

    with open_session(ctx) as session:
        database = session.database
        schema.require(database)
        differences = schema.check(database)
    for difference in differences:
        sys.stderr.write(f"differs: {difference}\n")
    if not differences:
        sys.stderr.write("the database has exactly the schema that this npuq works on\n")
    return ExitCode.FAILED if differences else ExitCode.DONE
