"""Datasets as a worker gets them: a folder, and its manifest beside it."""

from pathlib import Path

from tasks import datasets
from tasks.steps import DatasetRef


def register_folder(root: Path, manifest: Path, *, name: str = "small", dataset_format: str = "imagenet") -> DatasetRef:
    """Register a folder as it is now; its manifest is written to `manifest`."""
    facts = datasets.inspect(root, dataset_format)
    manifest.write_bytes(facts.manifest.text)
    return DatasetRef(
        name=name,
        format=dataset_format,
        root=root,
        digest=facts.digest,
        samples=facts.samples,
        manifest=manifest,
        host="h1",
    )
