"""`npuq up`."""

from typing import Annotated, Final

import typer

from cli.session import settings_of
from npuq.errors import InvalidRequestError

EXAMPLES: Final = ("npuq up", "npuq up --emulate 2 --chip 910B3")
START_TIMEOUT_SECONDS = 60.0


def command(
    ctx: typer.Context,
    *,
    emulate: Annotated[
        int | None,
        typer.Option("--emulate", metavar="N", min=1, max=64, help="Emulate N cards instead of using real ones."),
    ] = None,
    chip: Annotated[str, typer.Option("--chip", help="Which chip to emulate (npu-smi's Name).")] = "310P3",
    timed: Annotated[
        bool, typer.Option("--timed", help="Emulate time only: answer zeros after a modelled time.")
    ] = False,
) -> None:
    """Start a fleet on this machine: server, database, scheduler, and a worker for its chips.

    Returns when the fleet answers. What runs already is left running. Everything is kept in NPUQ_HOME.
    """
    from cli.fleet.embedded import EmbeddedFleet
    from cli.fleet.emulated import Emulation
    from cli.output import tell

    if timed and emulate is None:
        raise InvalidRequestError("--timed needs --emulate N: real chips cannot be told to be quick")
    settings = settings_of(ctx)
    fleet = EmbeddedFleet(settings, tell)
    emulation = None if emulate is None else Emulation(cards=emulate, chip=chip, timed=timed)
    if fleet.up(emulation, timeout_seconds=START_TIMEOUT_SECONDS):
        tell(f"the fleet is up in {settings.home}; next: npuq status, npuq sweep --help")
    else:
        tell("the fleet is up already; see: npuq status")
