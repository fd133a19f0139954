"""`npuq demo`."""

from typing import Annotated, Final

import typer

from cli.session import settings_of

EXAMPLES: Final = ("npuq demo", "npuq demo --batch-sizes 1,2 --keep")


def command(
    ctx: typer.Context,
    *,
    batch_sizes: Annotated[str, typer.Option("--batch-sizes", metavar="1,4,8", help="To sweep over.")] = "1,4,8",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the fleet running afterwards.")] = False,
) -> int:
    """Show the main job in one command: a fleet, a sweep over batch sizes, the table.

    Two emulated Ascend310P3 in a home of their own (NPUQ_HOME/demo), a small dataset and a checkpoint made for it.
    Everything runs as it would on real cards; nothing of a fleet that runs here is touched.
    """
    from cli.demonstration import Demonstration
    from cli.output import tell

    settings = settings_of(ctx)
    demonstration = Demonstration(settings.home / "demo", tell)
    return demonstration.run(batch_sizes=batch_sizes, keep=keep)
