"""`npuq doctor`."""

import os
import sys
from typing import Annotated, Final

import typer

from cli.options import Output
from cli.output import Format
from cli.session import settings_of
from npuq.errors import ExitCode

EXAMPLES: Final = ("npuq doctor", "npuq doctor --services -o json")


def command(
    ctx: typer.Context,
    *,
    output: Output = Format.TABLE,
    services: Annotated[
        bool, typer.Option("--services", help="Only the services: for machines that serve no card.")
    ] = False,
) -> int:
    """Check this host and the fleet's services, with a fix for each failure; exit code 1 when there is one."""
    from cli.doctoring.findings import Verdict
    from cli.doctoring.fleet_checks import check_fleet
    from cli.doctoring.host_checks import check_host
    from cli.doctoring.view import as_lines, findings_view
    from cli.output import show_many

    settings = settings_of(ctx)
    findings = [*([] if services else check_host(settings, os.environ)), *check_fleet(settings)]
    if output is Format.TABLE:
        sys.stdout.write(as_lines(findings))
    else:
        show_many(findings, findings_view(), output)
    return ExitCode.FAILED if any(finding.verdict is Verdict.FAILED for finding in findings) else ExitCode.DONE
