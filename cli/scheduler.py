"""`npuq scheduler`."""

from typing import Final

import typer

from cli.session import settings_of

EXAMPLES: Final = ("npuq scheduler",)


def command(ctx: typer.Context) -> int:
    """Plan runs and give jobs to devices until SIGTERM; may run twice, one leads."""
    from npuq import log
    from scheduler.main import serve

    log.configure()
    return serve(settings_of(ctx))
