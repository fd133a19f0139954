"""`npuq down`."""

from typing import Final

import typer

from cli.session import settings_of

EXAMPLES: Final = ("npuq down",)


def command(ctx: typer.Context) -> None:
    """Stop the fleet that `npuq up` started here; runs, results and files stay."""
    from cli.fleet.embedded import EmbeddedFleet
    from cli.output import tell

    settings = settings_of(ctx)
    if not EmbeddedFleet(settings, tell).down():
        tell(f"nothing of {settings.home} is running")
