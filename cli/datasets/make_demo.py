"""`npuq datasets make-demo`."""

import shlex
from pathlib import Path
from typing import Annotated, Final

import typer

EXAMPLES: Final = ("npuq datasets make-demo imagenet /tmp/small --images 48",)


def command(
    dataset_format: Annotated[str, typer.Argument(metavar="FORMAT", help="How it is laid out, imagenet for example.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An empty or a new folder.")],
    *,
    images: Annotated[int, typer.Option("--images", min=1, help="How many.")] = 48,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Equal seeds give equal images.")] = 0,
) -> None:
    """Write a small synthetic dataset in a format's own layout, to be registered and tried."""
    from cli.output import tell
    from tasks.demo_sets import write_demo_set

    root = folder.expanduser().absolute()
    written = write_demo_set(dataset_format, root, images=images, seed=seed)
    tell(f"wrote {written}: {root}\nNext: npuq datasets add demo {shlex.quote(str(root))} --format {dataset_format}")
