"""Registered datasets: rows that name a manifest in the artifact store by its digest."""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from db.artifacts import ArtifactStore, materialise
from db.records import DatasetRecord
from db.tables import Dataset
from db.types import db_now
from npuq.errors import ArtifactError, DatasetError


def put(connection: Connection, *, name: str, format: str, root: str, digest: str, samples: int) -> None:  # noqa: A002
    """Register a dataset, or change what is registered under its name; results keep the digest they were made from."""
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = dialect.insert(Dataset).values(
        name=name, format=format, root=root, digest=digest, samples=samples, added_at=db_now()
    )
    changed = {column: getattr(row.excluded, column) for column in ("format", "root", "digest", "samples", "added_at")}
    connection.execute(row.on_conflict_do_update(index_elements=["name"], set_=changed))


def get(connection: Connection, name: str) -> DatasetRecord | None:
    """Return one dataset by name."""
    row = connection.execute(select(Dataset.__table__).where(Dataset.name == name)).one_or_none()
    return None if row is None else DatasetRecord(**row._mapping)  # noqa: SLF001 - the public way to a row's columns


def find(connection: Connection) -> list[DatasetRecord]:
    """Return all datasets by name."""
    rows = connection.execute(select(Dataset.__table__).order_by(Dataset.name))
    return [DatasetRecord(**row._mapping) for row in rows]  # noqa: SLF001 - as above


def fetch_manifest(store: ArtifactStore, dataset: DatasetRecord, target: Path) -> Path:
    """Put a dataset's manifest at `target`.

    Raises:
        ArtifactError: the store cannot be reached, or its copy is damaged.
        DatasetError: the store has none: nothing can vouch for this dataset any more.
    """
    try:
        return materialise(store, dataset.digest, target)
    except ArtifactError as error:
        if store.exists(dataset.digest):
            raise
        raise DatasetError(
            f"The dataset {dataset.name!r} has no manifest in the artifact store: it was registered by an older npuq, "
            "or the manifest was lost. Register it again and submit again: npuq datasets add "
            f"{dataset.name} {dataset.root} --format {dataset.format}",
            code="dataset_unverifiable",
        ) from error
