"""Registering a dataset: inspected on this machine, then noted in the database."""

from pathlib import Path
from typing import TYPE_CHECKING

from cli.session import Session
from npuq.errors import DatasetError, InvalidRequestError

if TYPE_CHECKING:
    from tasks.datasets import DatasetFacts


def register(session: Session, name: str, folder: Path, dataset_format: str) -> "DatasetFacts":
    """Register a folder under a name, or change what is registered under it.

    Raises:
        InvalidRequestError: the name, the folder or the format cannot be meant.
        DatasetError: the folder is no usable dataset; the message lists what is wrong.
    """
    from pydantic import TypeAdapter, ValidationError

    from db import datasets
    from npuq.specs import Name
    from tasks.datasets import inspect

    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise InvalidRequestError(
            f"{name!r} cannot name a dataset: letters, digits, '.', '_' and '-', beginning with a letter or digit"
        ) from error
    root = folder.expanduser().absolute()
    if not root.is_dir():
        raise InvalidRequestError(f"there is no folder {root}")
    facts = inspect(root, dataset_format)
    if facts.problems:
        raise DatasetError(f"{root} cannot be used as a dataset: {'; '.join(facts.problems)}")
    with session.write() as connection:
        datasets.put(
            connection,
            name=name,
            format=facts.format,
            root=str(root),
            digest=facts.digest,
            samples=facts.samples,
        )
    return facts
