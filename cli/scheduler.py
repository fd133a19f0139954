"""`npuq scheduler`."""

import typer

from cli.session import settings_of


def command(ctx: typer.Context) -> int:
    """Plan runs and give jobs to devices until SIGTERM; may run twice, one leads."""
    from npuq import log
    from scheduler.main import serve

    log.configure()
    return serve(settings_of(ctx))
