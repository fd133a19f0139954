"""Registering a dataset: every file hashed on this machine, the manifest put into the store, its digest noted."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cli.datasets.bytes_bar import bytes_bar
from cli.output import tell
from cli.session import Session
from npuq.errors import InvalidRequestError

if TYPE_CHECKING:
    from cli.datasets.keeping import Kept
    from db.records import DatasetRecord
    from tasks.datasets import DatasetFacts


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What was registered.

    Attributes:
        facts: what the folder holds.
        before: what was registered under the name until now; None: nothing.
        kept: what was sent to the store; None: its files are not kept there.
    """

    facts: "DatasetFacts"
    before: "DatasetRecord | None"
    kept: "Kept | None" = None


def register(session: Session, name: str, folder: Path, dataset_format: str, *, in_store: bool = False) -> Registration:
    """Register a folder under a name, or change what is registered under it.

    Args:
        session: the fleet.
        name: what to call the dataset.
        folder: where it lies.
        dataset_format: how it is laid out.
        in_store: put all its files into the store, where workers get them.

    Raises:
        DatabaseError: the fleet cannot be reached; found out before anything is hashed.
        InvalidRequestError: the name, the folder or the format cannot be meant.
        DatasetError: the folder is no usable dataset; the message lists what is wrong.
        ArtifactError: the store cannot be written.
    """
    from db import datasets
    from tasks.datasets import inspect

    _check_name(name)
    root = folder.expanduser().absolute()
    if not root.is_dir():
        raise InvalidRequestError(f"there is no folder {root}")
    if session.make_database():
        tell(f"note: there was no fleet in {session.settings.home} yet; its database is there now, the rest: npuq up")
    with session.read() as connection:
        before = datasets.get(connection, name)
    with bytes_bar(f"reading {name}") as progress:
        facts = inspect(root, dataset_format, progress=progress)
    kept = _keep(session, name, root, facts) if in_store else None
    _note(session, name, root, facts, in_store=in_store)
    return Registration(facts=facts, before=before, kept=kept)


def _keep(session: Session, name: str, root: Path, facts: "DatasetFacts") -> "Kept":
    from cli.datasets.keeping import keep_files

    with bytes_bar(f"uploading {name}") as progress:
        return keep_files(session.client.store, root, facts.manifest, progress)


def _note(session: Session, name: str, root: Path, facts: "DatasetFacts", *, in_store: bool) -> None:
    """Put the manifest into the store, and only then the rows that promise what lies there."""
    from db import artifacts, datasets
    from db.records import NewArtifact

    with tempfile.TemporaryDirectory() as scratch:
        text = Path(scratch) / "manifest.json"
        text.write_bytes(facts.manifest.text)
        manifest = session.client.upload(text)
    files = facts.manifest.files if in_store else ()
    stored = [NewArtifact(digest=file.sha256, size_bytes=file.size_bytes) for file in files]
    with session.write() as connection:
        artifacts.record(connection, [manifest, *stored])
        datasets.put(
            connection,
            name=name,
            format=facts.manifest.format,
            root=str(root),
            digest=manifest.digest,
            samples=facts.samples,
            size_bytes=facts.manifest.size_bytes,
            in_store=in_store,
            notes=facts.notes,
        )


def register_on_host(session: Session, dataset: "DatasetRecord", folder: Path, host: str) -> None:
    """Note in which folder one host has a registered dataset; on that host the folder is looked at, too.

    Raises:
        DatasetMissingError, DatasetChangedError: the host is this one, and does not have it there.
        NpuqError: the host is this one, and the dataset's manifest cannot be had.
    """
    from cli.datasets.local import local_ref
    from db import datasets
    from tasks.datasets import open_manifest
    from worker.discovery import host_id

    if host == host_id(session.settings):
        with local_ref(session, dataset) as ref:
            open_manifest(replace(ref, root=folder))
    with session.write() as connection:
        datasets.put_folder(connection, name=dataset.name, host=host, root=str(folder))


def _check_name(name: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    from npuq.specs import Name

    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise InvalidRequestError(
            f"{name!r} cannot name a dataset: letters, digits, '.', '_' and '-', beginning with a letter or digit"
        ) from error
