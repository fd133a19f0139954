"""A registered dataset as this machine sees it: its manifest out of the store, and the folder that this host has."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cli.session import Session

if TYPE_CHECKING:
    from db.records import DatasetRecord
    from tasks.steps import DatasetRef


@contextmanager
def local_ref(session: Session, dataset: "DatasetRecord") -> Iterator["DatasetRef"]:
    """Fetch a dataset's manifest, to be used within the block.

    Raises:
        ArtifactError: the store cannot be reached, or its copy is damaged.
        DatasetError: the store has no manifest of it.
    """
    from db import datasets
    from tasks.steps import DatasetRef
    from worker.discovery import host_id

    host = host_id(session.settings)
    with tempfile.TemporaryDirectory() as scratch:
        yield DatasetRef(
            name=dataset.name,
            format=dataset.format,
            root=Path(dataset.folders.get(host, dataset.root)),
            digest=dataset.digest,
            samples=dataset.samples,
            manifest=datasets.fetch_manifest(session.client.store, dataset, Path(scratch) / "manifest.json"),
            host=host,
        )
