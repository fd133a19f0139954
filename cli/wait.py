"""`npuq wait`."""

from typing import Final

import typer

from cli.options import Target, Timeout
from cli.output import tell
from cli.session import open_session
from npuq.errors import ExitCode

EXAMPLES: Final = ("npuq wait @last", "npuq wait 019abc12 --timeout 2h")


def command(ctx: typer.Context, target: Target = "@last", timeout: Timeout = None) -> int:
    """Wait until a run or a job is over; Ctrl-C lets go of it.

    Exit code 0 when it succeeded; 1 when it did not, 3 when that was a device's, a host's or the fleet's doing; 4 when
    the time was over first.
    """
    from cli.watching.waiting import find_awaited, wait_until_over
    from cli.words import deadline_after

    with open_session(ctx) as session:
        awaited = find_awaited(session, target)
        again = f"it goes on. Come back with: npuq wait {awaited.job_id or awaited.run_id}"
        try:
            ended = wait_until_over(session, awaited, deadline_after(timeout))
        except TimeoutError as error:
            tell(f"{error}; {again}")
            return ExitCode.TIMEOUT
        except KeyboardInterrupt:
            tell(f"\nlet go of {awaited.name}; {again}")
            return ExitCode.INTERRUPTED
    tell(f"{awaited.name} {ended.state}")
    return ended.exit_code
