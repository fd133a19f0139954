"""`npuq devices list`."""

from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from cli.options import Output
from cli.output import Format
from cli.session import open_session
from npuq.states import DeviceKind

EXAMPLES: Final = ("npuq devices list", "npuq devices list --all -o json")


def command(
    ctx: typer.Context,
    *,
    output: Output = Format.TABLE,
    everything: Annotated[bool, typer.Option("--all", help="Also the slots of host workers.")] = False,
) -> None:
    """List the chips of the fleet and what they are doing."""
    from cli.output import show_many
    from cli.views import devices_view
    from db import devices

    with open_session(ctx) as session, session.read() as connection:
        found = devices.find(
            connection,
            suspect_seconds=session.settings.timing.suspect_seconds,
            kind=None if everything else DeviceKind.NPU,
        )
    show_many(found, devices_view(datetime.now(UTC)), output)
