"""`npuq watch`."""

from typing import Annotated, Final

import typer

from cli.options import Timeout
from cli.session import open_session

EXAMPLES: Final = ("npuq watch", "npuq watch 019abc12 --timeout 30m")


def command(
    ctx: typer.Context,
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="A run: a unique beginning of its id; default: the latest.")
    ] = "@last",
    timeout: Timeout = None,
) -> int:
    """Follow a run: what each chip is doing, how far it is, how long it may take.

    Ctrl-C lets go of it; the run goes on. Exit code 0 when the run succeeded; 1 when it did not, 3 when that was a
    device's, a host's or the fleet's doing; 4 when the time was over first.
    """
    from cli.watching.follow import follow_run
    from cli.watching.waiting import find_awaited
    from cli.words import deadline_after

    with open_session(ctx) as session:
        return follow_run(session, find_awaited(session, run).run_id, deadline_after(timeout))
