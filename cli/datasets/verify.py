"""`npuq datasets verify`."""

from typing import Final

import typer

from cli.datasets.registered import DatasetArgument
from cli.options import Output
from cli.output import Format
from cli.session import open_session
from npuq.errors import DatasetError

EXAMPLES: Final = ("npuq datasets verify imagenet",)


def command(
    ctx: typer.Context,
    name: DatasetArgument,
    output: Output = Format.TABLE,
) -> None:
    """Compare every file of a dataset's folder on this machine with its manifest; exit code 1 when any differs."""
    from cli.datasets.hashing import hashing_bar
    from cli.datasets.local import local_ref
    from cli.datasets.registered import get_dataset
    from cli.datasets.view import differences_view
    from cli.output import show_many
    from tasks.datasets import verify

    with open_session(ctx) as session:
        found = get_dataset(session, name)
        with local_ref(session, found) as ref, hashing_bar(name) as progress:
            differences = verify(ref, progress=progress)
    show_many(differences, differences_view(f"{name}: all {found.samples} images are as registered"), output)
    if differences:
        raise DatasetError(
            f"{name} in {ref.root} is not what was registered: {len(differences)} files differ. Restore "
            "them, or register the folder as it is now under a new name: "
            f"npuq datasets add NEW_NAME {ref.root} --format {found.format}"
        )
