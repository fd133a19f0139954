"""`npuq datasets remove`."""

from typing import Final

import typer

from cli.datasets.registered import DatasetArgument, OfHost
from cli.session import open_session

EXAMPLES: Final = ("npuq datasets remove imagenet", "npuq datasets remove imagenet --host h2")


def command(ctx: typer.Context, name: DatasetArgument, host: OfHost = None) -> None:
    """Forget a dataset, or where one host has it. No file is deleted, and results stay.

    Jobs that still need it fail, and say so.
    """
    from cli.datasets.registered import get_dataset, unknown
    from cli.output import tell
    from db import datasets
    from npuq.errors import NotFoundError

    with open_session(ctx) as session:
        if host is None:
            if not session.transact(lambda connection: datasets.remove(connection, name)):
                raise unknown(name)
            tell(f"{name} is forgotten; its files are where they were")
            return
        if not session.transact(lambda connection: datasets.remove_folder(connection, name, host)):
            get_dataset(session, name)
            raise NotFoundError(f"host {host!r} has no folder of its own for {name}; see: npuq datasets show {name}")
        tell(f"{host} has no folder of its own for {name} any more")
