"""`npuq devices events`."""

from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from cli.options import Limit, Output
from cli.output import Format
from cli.session import open_session

EXAMPLES: Final = ("npuq devices events h1.npu0.0 --since 1d",)


def command(
    ctx: typer.Context,
    device: Annotated[
        str | None, typer.Argument(metavar="[DEVICE]", help="Only this device: a unique beginning of its id.")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="Since a time ago (7d) or a date (2026-11-01).")] = None,
    output: Output = Format.TABLE,
    limit: Limit = 50,
) -> None:
    """List what happened to devices, newest first: taken out of service and back, by whom, and why."""
    from cli.ids import find_device
    from cli.output import show_many
    from cli.views import device_events_view
    from cli.words import parse_since
    from db import device_events

    now = datetime.now(UTC)
    moment = None if since is None else parse_since(since, now)
    with open_session(ctx) as session, session.read() as connection:
        device_id = None
        if device is not None:
            device_id = find_device(connection, device, session.settings.timing.suspect_seconds).device_id
        found = device_events.find(connection, device_id=device_id, since=moment, limit=limit + 1)
    show_many(found, device_events_view(now), output, limit)
