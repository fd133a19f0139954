"""`npuq datasets verify`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.session import open_session
from npuq.errors import NotFoundError


def command(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A registered dataset.")],
) -> None:
    """Compare a dataset's folder on this machine with what was registered; exit code 1 when it differs."""
    from db import datasets
    from tasks.datasets import verify
    from tasks.steps import DatasetRef

    with open_session(ctx) as session, session.read() as connection:
        found = datasets.get(connection, name)
    if found is None:
        raise NotFoundError(f"no dataset {name!r}; see: npuq datasets list")
    facts = verify(
        DatasetRef(
            name=found.name, format=found.format, root=Path(found.root), digest=found.digest, samples=found.samples
        )
    )
    sys.stderr.write(f"{name}: all {facts.samples} images are as registered ({found.digest[:12]})\n")
