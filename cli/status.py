"""`npuq status`."""

import sys
from datetime import UTC, datetime
from typing import Final

import typer

from cli.options import Output
from cli.output import Format
from cli.session import open_session
from npuq.errors import ExitCode

EXAMPLES: Final = ("npuq status", "npuq status -o json")


def command(ctx: typer.Context, output: Output = Format.TABLE) -> int:
    """Show what runs here: processes, devices, the queue; exit code 3 when the fleet is not up."""
    from cli.fleet.status import as_lines, read_status, status_view
    from cli.invocation import as_called
    from cli.output import show_one

    with open_session(ctx) as session:
        status = read_status(session)
    if output is Format.TABLE:
        sys.stdout.write(as_called(as_lines(status, datetime.now(UTC))))
    else:
        show_one(status, status_view(), output)
    return ExitCode.DONE if status.up else ExitCode.FLEET
