"""`npuq demo`."""

from typing import Annotated, Final

import typer

from cli.session import settings_of

EXAMPLES: Final = ("npuq demo", "npuq demo --batch-sizes 1,2 --images 80 --keep")
IMAGES: Final = 240
MIN_IMAGES: Final = 16  #: one of each class


def command(
    ctx: typer.Context,
    *,
    batch_sizes: Annotated[str, typer.Option("--batch-sizes", metavar="1,4,8", help="To sweep over.")] = "1,4,8",
    images: Annotated[
        int, typer.Option("--images", metavar="240", min=MIN_IMAGES, help="Of the dataset; fewer are quicker.")
    ] = IMAGES,
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
    return demonstration.run(batch_sizes=batch_sizes, images=images, keep=keep)
