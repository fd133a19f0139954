"""A dataset that is kept in a store, as a worker gets it: a manifest, a source, and a folder of the attempt's own."""

from dataclasses import replace
from pathlib import Path

from cli.datasets.keeping import keep_files
from db.artifacts import ArtifactStore
from tasks.datasets import read_manifest
from tasks.steps import DatasetRef


def keep(store: ArtifactStore, ref: DatasetRef) -> DatasetRef:
    """Put a registered folder into the store; returns the dataset without a folder."""
    keep_files(store, ref.root, read_manifest(ref), None)
    return replace(ref, root=Path("/nowhere"))


def own_folder(ref: DatasetRef, folder: Path) -> DatasetRef:
    """Return the dataset with an empty folder of an attempt's own."""
    folder.mkdir(parents=True)
    return replace(ref, root=folder)
