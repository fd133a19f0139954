"""`npuq devices show`."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import typer

from cli.options import DeviceArgument, Output
from cli.output import Format
from cli.session import open_session

EXAMPLES: Final = ("npuq devices show h1.npu0.0",)
SHOWN_EVENTS: Final = 5


def command(ctx: typer.Context, device: DeviceArgument, output: Output = Format.TABLE) -> None:
    """Show one device: why it is in its state, since when, and what happened to it last."""
    from cli.documents import DEVICE_DETAIL_FIELDS, device_detail_document
    from cli.ids import find_device
    from cli.output import show_one
    from cli.views import devices_view
    from db import device_events

    with open_session(ctx) as session, session.read() as connection:
        found = find_device(connection, device, session.settings.timing.suspect_seconds)
        events = device_events.of_device(connection, found.device_id, limit=SHOWN_EVENTS)
    view = replace(
        devices_view(datetime.now(UTC)),
        document=lambda record: device_detail_document(record, events),
        fields=DEVICE_DETAIL_FIELDS,
    )
    show_one(found, view, output)
