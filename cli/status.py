"""`npuq status`."""

import sys
from datetime import UTC, datetime

import typer

from cli.options import Output
from cli.output import Format
from cli.session import open_session
from npuq.errors import ExitCode


def command(ctx: typer.Context, output: Output = Format.TABLE) -> int:
    """Show what runs here: processes, devices, the queue; exit code 3 when the fleet is not up."""
    from cli.fleet.status import as_lines, read_status, status_document
    from cli.output import write_json

    with open_session(ctx) as session:
        status = read_status(session)
    if output in {Format.JSON, Format.NDJSON}:
        write_json(status_document(status))
    else:
        sys.stdout.write(as_lines(status, datetime.now(UTC)))
    return ExitCode.DONE if status.up else ExitCode.FLEET
