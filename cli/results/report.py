"""`npuq results report`."""

import sys
from typing import Final

import typer

from cli.options import Output, RunArgument
from cli.output import Format
from cli.session import open_session

EXAMPLES: Final = ("npuq results report @last", "npuq results report 019abc12 -o md")


def command(ctx: typer.Context, run: RunArgument, output: Output = Format.TABLE) -> None:
    """Print a run's results as the table at the end of a guide.

    With -o name: the ids of the results in it.
    """
    from cli.ids import find_run
    from cli.output import show_many, tell
    from cli.results.guide_view import guide_view
    from db import results
    from report import tables

    with open_session(ctx) as session, session.read() as connection:
        found = find_run(connection, run, session.waiting())
        rows = tables.guide_rows(results.find(connection, run_id=found.run_id))
    if output not in {Format.TABLE, Format.MD}:
        show_many(rows, guide_view(), output)
        return
    if not rows:
        tell(f"run {found.run_id} has no results yet; see: npuq watch {found.run_id}")
    if output is Format.MD:
        sys.stdout.write(tables.as_markdown(tables.guide_table(rows)))
    elif rows:
        sys.stdout.write(tables.as_text(tables.guide_table(rows)))
