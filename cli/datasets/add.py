"""`npuq datasets add`."""

import sys
from typing import Annotated

import typer

from cli.options import Folder
from cli.session import open_session


def command(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    folder: Folder,
    dataset_format: Annotated[str, typer.Option("--format", help="How the folder is laid out.")] = "imagenet",
) -> None:
    """Register a dataset: look at its folder as a whole and note its digest."""
    from cli.datasets.registration import register

    with open_session(ctx) as session:
        facts = register(session, name, folder, dataset_format)
    for note in facts.notes:
        sys.stderr.write(f"note: {note}\n")
    sys.stderr.write(f"{name}: {facts.samples} images, digest {facts.digest[:12]}\n")
