"""`npuq devices quarantine`."""

import typer

from cli.options import DeviceArgument, Reason
from npuq.states import DeviceState


def command(ctx: typer.Context, device: DeviceArgument, reason: Reason = "quarantined by a person") -> None:
    """Mark a device as sick: what runs on it is done elsewhere, and it gets no work until it is resumed."""
    from cli.devices.steering import set_state

    set_state(ctx, device, DeviceState.QUARANTINED, reason)
