"""`npuq results report`."""

import sys
from dataclasses import asdict

import typer

from cli.options import Output, RunArgument
from cli.output import Format
from cli.session import open_session


def command(ctx: typer.Context, run: RunArgument, output: Output = Format.TABLE) -> None:
    """Print a run's results as the table at the end of a guide."""
    from cli.ids import find_run
    from cli.output import comma_separated, write_json
    from db import results
    from report import tables

    with open_session(ctx) as session, session.read() as connection:
        found = find_run(connection, run)
        rows = tables.guide_rows(results.find(connection, run_id=found.run_id))
    documents = [asdict(row) for row in rows]
    if output in {Format.JSON, Format.NDJSON}:
        write_json(documents)
    elif output is Format.CSV:
        sys.stdout.write(comma_separated(documents))
    elif not rows:
        sys.stderr.write(f"run {found.run_id} has no results yet; see: npuq watch {found.run_id}\n")
    elif output is Format.MD:
        sys.stdout.write(tables.as_markdown(tables.guide_table(rows)))
    else:
        sys.stdout.write(tables.as_text(tables.guide_table(rows)))
