"""`npuq emulator clear`."""

from typing import Annotated, Final

import typer

EXAMPLES: Final = ("npuq emulator clear", "npuq emulator clear 0")


def command(
    ctx: typer.Context,
    device: Annotated[
        str | None, typer.Argument(metavar="[DEVICE]", help="A chip's logic id or device id, or host; default: all.")
    ] = None,
) -> None:
    """Take away the faults of a chip, of the host, or all."""
    from cli.emulator.program import place, run
    from cli.output import tell

    run(ctx, ["clear", *([] if device is None else [place(ctx, device)])])
    tell(f"no faults on {'any chip or the host' if device is None else device}")
