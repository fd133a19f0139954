"""Registering a dataset: every file hashed on this machine, the manifest put into the store, its digest noted."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.datasets.hashing import hashing_bar
from cli.session import Session
from npuq.errors import InvalidRequestError

if TYPE_CHECKING:
    from db.records import DatasetRecord
    from tasks.datasets import DatasetFacts


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What was registered.

    Attributes:
        facts: what the folder holds.
        before: what was registered under the name until now; None: nothing.
    """

    facts: "DatasetFacts"
    before: "DatasetRecord | None"


def register(session: Session, name: str, folder: Path, dataset_format: str) -> Registration:
    """Register a folder under a name, or change what is registered under it.

    Raises:
        DatabaseError: there is no fleet yet, or it cannot be reached; found out before anything is hashed.
        InvalidRequestError: the name, the folder or the format cannot be meant.
        DatasetError: the folder is no usable dataset; the message lists what is wrong.
        ArtifactError: the store cannot be written.
    """
    from db import artifacts, datasets
    from tasks.datasets import inspect

    _check_name(name)
    root = folder.expanduser().absolute()
    if not root.is_dir():
        raise InvalidRequestError(f"there is no folder {root}")
    with session.read() as connection:
        before = datasets.get(connection, name)
    with hashing_bar(name) as progress:
        facts = inspect(root, dataset_format, progress=progress)
    with tempfile.TemporaryDirectory() as scratch:
        manifest = Path(scratch) / "manifest.json"
        manifest.write_bytes(facts.manifest.text)
        stored = session.client.upload(manifest)
    with session.write() as connection:
        artifacts.record(connection, [stored])
        datasets.put(
            connection,
            name=name,
            format=dataset_format,
            root=str(root),
            digest=stored.digest,
            samples=facts.samples,
        )
    return Registration(facts=facts, before=before)


def _check_name(name: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    from npuq.specs import Name

    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise InvalidRequestError(
            f"{name!r} cannot name a dataset: letters, digits, '.', '_' and '-', beginning with a letter or digit"
        ) from error
