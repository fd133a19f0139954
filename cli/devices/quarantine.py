"""`npuq devices quarantine`."""

from typing import Final

import typer

from cli.options import DeviceArgument, Reason
from npuq.states import DeviceState

EXAMPLES: Final = ("npuq devices quarantine h1.npu0.0 --reason 'wrong numbers since Monday'",)


def command(ctx: typer.Context, device: DeviceArgument, reason: Reason = "quarantined by a person") -> None:
    """Mark a device as sick: what runs on it is done elsewhere, and it gets no work until it is resumed."""
    from cli.devices.steering import set_state

    set_state(ctx, device, DeviceState.QUARANTINED, reason)
