"""`npuq devices resume`."""

import typer

from cli.options import DeviceArgument
from npuq.states import DeviceState


def command(ctx: typer.Context, device: DeviceArgument) -> None:
    """Give a drained or quarantined device work again; what it did before no longer counts against it."""
    from cli.devices.steering import set_state

    set_state(ctx, device, DeviceState.ONLINE, "")
