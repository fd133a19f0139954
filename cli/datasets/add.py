"""`npuq datasets add`."""

from typing import Annotated, Final

import typer

from cli.options import Folder
from cli.session import open_session

EXAMPLES: Final = ("npuq datasets add imagenet /data/imagenet --format imagenet",)


def command(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    folder: Folder,
    dataset_format: Annotated[str, typer.Option("--format", help="How the folder is laid out.")] = "imagenet",
) -> None:
    """Register a dataset: read every file of its folder and keep a manifest of them, which no later change escapes."""
    from cli.datasets.registration import register
    from cli.output import tell

    with open_session(ctx) as session:
        done = register(session, name, folder, dataset_format)
    for note in done.facts.notes:
        tell(f"note: {note}")
    if done.before is not None and done.before.digest != done.facts.digest:
        tell(
            f"note: {name} was another dataset until now ({done.before.digest[:12]}); its results stay, and runs that "
            "were planned with it have to be submitted again"
        )
    tell(f"{name}: {done.facts.samples} images, digest {done.facts.digest[:12]}")
