"""`npuq version`."""

import platform
import sys

import typer

from cli.options import Output
from cli.output import Format
from cli.session import open_session


def command(ctx: typer.Context, output: Output = Format.TABLE) -> None:
    """Show the versions of this program, of the fleet's schema and of what they stand on."""
    from cli.output import aligned, write_json
    from db import schema
    from npuq import __version__
    from npuq.errors import DatabaseError

    with open_session(ctx) as session:
        try:
            found = schema.current_revision(session.database)
        except DatabaseError:
            found = None
    facts = {
        "npuq": __version__,
        "schema": schema.newest_revision(),
        "fleet_schema": found,
        "python": platform.python_version(),
    }
    if output is Format.JSON:
        write_json(facts)
    else:
        sys.stdout.write(aligned([(name, str(value or "-")) for name, value in facts.items()], [False, False]))
    if found not in {None, facts["schema"]}:
        sys.stderr.write(f"warning: the fleet's schema {found} is not the one this npuq works on; see: npuq db check\n")
