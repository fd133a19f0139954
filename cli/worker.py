"""`npuq worker`."""

import os
from typing import Annotated, Final

import typer

EXAMPLES: Final = ("npuq worker", "npuq worker --host-slots 2")


def command(
    ctx: typer.Context,
    host_slots: Annotated[
        int | None,
        typer.Option("--host-slots", min=1, max=256, help="Host jobs at once; default: by memory and cores."),
    ] = None,
) -> int:
    """Serve the chips of this host until SIGTERM: one worker per chip, one for host jobs."""
    from npuq import log
    from npuq.config import load_settings
    from worker.launcher import run

    log.configure()
    settings = load_settings(home=ctx.obj, host_slots=host_slots)
    os.environ.update(settings.as_environment())  # the workers of the chips are programs of their own
    return run(settings)
