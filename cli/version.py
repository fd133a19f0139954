"""`npuq version`."""

import platform
from collections.abc import Mapping
from typing import Any, Final

import typer

from cli.options import Output
from cli.output import Format
from cli.session import open_session

EXAMPLES: Final = ("npuq version -o json",)
_FIELDS: Final = ("npuq", "schema", "fleet_schema", "python")


def command(ctx: typer.Context, output: Output = Format.TABLE) -> None:
    """Show the versions of this program, of the fleet's schema and of what they stand on."""
    from cli.output import View, show_one, tell
    from db import schema
    from npuq import __version__
    from npuq.errors import DatabaseError

    with open_session(ctx) as session:
        try:
            found = schema.current_revision(session.database)
        except DatabaseError:
            found = None
    newest = schema.newest_revision()
    facts = dict(zip(_FIELDS, (__version__, newest, found, platform.python_version()), strict=True))
    view: View[Mapping[str, Any]] = View(
        columns=(), document=dict, fields=_FIELDS, name=lambda record: f"npuq {record['npuq']}", empty=""
    )
    show_one(facts, view, output)
    if found not in {None, newest}:
        tell(f"warning: the fleet's schema {found} is not the one this npuq works on; see: npuq db check")
