"""`npuq devices resume`."""

from typing import Final

import typer

from cli.options import DeviceArgument
from npuq.states import DeviceState

EXAMPLES: Final = ("npuq devices resume h1.npu0.0",)


def command(ctx: typer.Context, device: DeviceArgument) -> None:
    """Give a drained or quarantined device work again; what it did before no longer counts against it."""
    from cli.devices.steering import set_state

    set_state(ctx, device, DeviceState.ONLINE, "")
