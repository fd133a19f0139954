"""`npuq down`."""

import sys

import typer

from cli.session import settings_of


def command(ctx: typer.Context) -> None:
    """Stop the fleet that `npuq up` started here; runs, results and files stay."""
    from cli.fleet.embedded import EmbeddedFleet

    settings = settings_of(ctx)
    if not EmbeddedFleet(settings, lambda line: sys.stderr.write(f"{line}\n")).down():
        sys.stderr.write(f"nothing of {settings.home} is running\n")
