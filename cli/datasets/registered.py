"""Registered datasets as commands ask for them by name."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.session import Session
from npuq.errors import NotFoundError

if TYPE_CHECKING:
    from db.records import DatasetRecord

OfHost = Annotated[
    str | None, typer.Option("--host", metavar="HOST", help="Only the folder that this host has of its own.")
]
DatasetArgument = Annotated[str, typer.Argument(metavar="NAME", help="A registered dataset.")]


def get_dataset(session: Session, name: str) -> "DatasetRecord":
    """Return a registered dataset; raises NotFoundError."""
    from db import datasets

    with session.read() as connection:
        found = datasets.get(connection, name)
    if found is None:
        raise unknown(name)
    return found


def unknown(name: str) -> NotFoundError:
    """Return the error of a dataset that is not registered."""
    return NotFoundError(f"no dataset {name!r}; see: npuq datasets list")
