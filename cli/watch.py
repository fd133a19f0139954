"""`npuq watch`."""

from typing import Annotated

import typer

from cli.session import open_session


def command(
    ctx: typer.Context,
    run: Annotated[
        str, typer.Argument(metavar="[RUN]", help="A run: a unique beginning of its id; default: the latest.")
    ] = "@last",
) -> int:
    """Follow a run: what each chip is doing, how far it is, how long it may take.

    Ctrl-C lets go of it; the run goes on. Exit code 0 when the run succeeded, 1 when it did not.
    """
    from cli.watching.follow import follow_run
    from cli.watching.waiting import find_awaited

    with open_session(ctx) as session:
        return follow_run(session, find_awaited(session, run).run_id)
