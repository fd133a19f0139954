"""Registered datasets: rows that name a manifest in the artifact store by its digest, and where the files lie."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from db.artifacts import ArtifactStore, materialise
from db.records import DatasetRecord
from db.tables import Dataset, DatasetFolder
from db.types import db_now
from npuq.errors import ArtifactError, DatasetError


def put(  # noqa: PLR0913 - a column each
    connection: Connection,
    *,
    name: str,
    format: str,  # noqa: A002 - the column's name
    root: str,
    digest: str,
    samples: int,
    size_bytes: int | None = None,
    in_store: bool = False,
    notes: Sequence[str] = (),
) -> None:
    """Register a dataset, or change what is registered under its name; results keep the digest they were made from.

    Folders of single hosts are forgotten with the content they had.
    """
    values = {
        "format": format,
        "root": root,
        "digest": digest,
        "samples": samples,
        "size_bytes": size_bytes,
        "in_store": in_store,
        "notes": list(notes),
    }
    before = get(connection, name)
    if before is not None and before.digest != digest:
        connection.execute(delete(DatasetFolder).where(DatasetFolder.dataset == name))
    row = _dialect(connection).insert(Dataset).values(name=name, added_at=db_now(), **values)
    changed = {column: getattr(row.excluded, column) for column in (*values, "added_at")}
    connection.execute(row.on_conflict_do_update(index_elements=["name"], set_=changed))


def put_folder(connection: Connection, *, name: str, host: str, root: str) -> None:
    """Note in which folder a host has a registered dataset, in place of what was noted."""
    row = _dialect(connection).insert(DatasetFolder).values(dataset=name, host=host, root=root)
    connection.execute(row.on_conflict_do_update(index_elements=["dataset", "host"], set_={"root": row.excluded.root}))


def remove(connection: Connection, name: str) -> bool:
    """Forget a dataset; False when there is none. Its results and the bytes in the store stay."""
    return connection.execute(delete(Dataset).where(Dataset.name == name)).rowcount > 0


def remove_folder(connection: Connection, name: str, host: str) -> bool:
    """Forget the folder of its own that a host has for a dataset; False when it has none."""
    found = (DatasetFolder.dataset == name, DatasetFolder.host == host)
    return connection.execute(delete(DatasetFolder).where(*found)).rowcount > 0


def get(connection: Connection, name: str) -> DatasetRecord | None:
    """Return one dataset by name."""
    row = connection.execute(select(Dataset.__table__).where(Dataset.name == name)).one_or_none()
    if row is None:
        return None
    return _record(row, connection.execute(select(DatasetFolder.__table__).where(DatasetFolder.dataset == name)))


def find(connection: Connection) -> list[DatasetRecord]:
    """Return all datasets by name."""
    rows = connection.execute(select(Dataset.__table__).order_by(Dataset.name)).all()
    folders = connection.execute(select(DatasetFolder.__table__).order_by(DatasetFolder.host)).all()
    return [_record(row, (folder for folder in folders if folder.dataset == row.name)) for row in rows]


def _record(row: Row[Any], folders: Iterable[Row[Any]]) -> DatasetRecord:
    values = dict(row._mapping)  # noqa: SLF001 - the public way to a row's columns
    return DatasetRecord(
        **values | {"notes": tuple(row.notes), "folders": {folder.host: folder.root for folder in folders}}
    )


def _dialect(connection: Connection) -> Any:  # noqa: ANN401 - modules of SQLAlchemy
    return postgresql if connection.dialect.name == "postgresql" else sqlite


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
            f"{dataset.name} {dataset.root} --format {dataset.format}{' --store' if dataset.in_store else ''}",
            code="dataset_unverifiable",
        ) from error
