"""`npuq devices drain`."""

from typing import Final

import typer

from cli.options import DeviceArgument, Reason
from npuq.states import DeviceState

EXAMPLES: Final = ("npuq devices drain h1.npu0.0 --reason 'moves to rack 2'",)


def command(ctx: typer.Context, device: DeviceArgument, reason: Reason = "drained by a person") -> None:
    """Let a device finish what it has and give it nothing new, until it is resumed."""
    from cli.devices.steering import set_state

    set_state(ctx, device, DeviceState.DRAINING, reason)
