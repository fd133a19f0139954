"""`npuq datasets verify`."""

import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.options import Output
from cli.output import Format
from cli.session import open_session
from npuq.errors import DatasetError, NotFoundError

EXAMPLES: Final = ("npuq datasets verify imagenet",)


def command(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A registered dataset.")],
    output: Output = Format.TABLE,
) -> None:
    """Compare every file of a dataset's folder on this machine with its manifest; exit code 1 when any differs."""
    from cli.datasets.hashing import hashing_bar
    from cli.datasets.view import differences_view
    from cli.output import show_many
    from db import datasets
    from tasks.datasets import verify
    from tasks.steps import DatasetRef

    with open_session(ctx) as session, tempfile.TemporaryDirectory() as scratch:
        with session.read() as connection:
            found = datasets.get(connection, name)
        if found is None:
            raise NotFoundError(f"no dataset {name!r}; see: npuq datasets list")
        ref = DatasetRef(
            name=found.name,
            format=found.format,
            root=Path(found.root),
            digest=found.digest,
            samples=found.samples,
            manifest=datasets.fetch_manifest(session.client.store, found, Path(scratch) / "manifest.json"),
        )
        with hashing_bar(name) as progress:
            differences = verify(ref, progress=progress)
    show_many(differences, differences_view(f"{name}: all {found.samples} images are as registered"), output)
    if differences:
        raise DatasetError(
            f"{name} in {found.root} is not what was registered: files that differ: {len(differences)}. Restore "
            "them, or register the folder as it is now under a new name: "
            f"npuq datasets add NEW_NAME {found.root} --format {found.format}"
        )
