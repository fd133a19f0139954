"""What drain, resume and quarantine share: find the device, set its state, say what was done."""

import sys

import typer

from cli.session import open_session
from npuq.states import DeviceState


def set_state(ctx: typer.Context, text: str, state: DeviceState, reason: str) -> None:
    """Set the state of the device that a text stands for; raises NotFoundError."""
    from cli.ids import find_device
    from db import devices

    with open_session(ctx) as session, session.write() as connection:
        device = find_device(connection, text, session.settings.timing.suspect_seconds)
        before = devices.set_state(connection, device.device_id, state, reason)
    sys.stderr.write(f"{device.device_id}: {before} -> {state}\n")
