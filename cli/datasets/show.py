"""`npuq datasets show`."""

from datetime import UTC, datetime
from typing import Final

import typer

from cli.datasets.registered import DatasetArgument
from cli.options import Output
from cli.output import Format
from cli.session import open_session

EXAMPLES: Final = ("npuq datasets show imagenet", "npuq datasets show imagenet -o json")


def command(ctx: typer.Context, name: DatasetArgument, output: Output = Format.TABLE) -> None:
    """Show one dataset: its format, digest and images, where it lies, and what was odd about it."""
    from cli.datasets.registered import get_dataset
    from cli.output import show_one
    from cli.views import datasets_view

    with open_session(ctx) as session:
        found = get_dataset(session, name)
    show_one(found, datasets_view(datetime.now(UTC)), output)
