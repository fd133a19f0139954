"""Manifests come out of the store, or it is told what their absence means."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from db import datasets
from db.artifacts import ArtifactStore
from db.records import DatasetRecord
from npuq.errors import ArtifactError, Blame, DatasetError


def record(digest: str) -> DatasetRecord:
    """Return a registered dataset."""
    return DatasetRecord(
        name="small", format="imagenet", root="/data", digest=digest, samples=2, added_at=datetime.now(UTC)
    )


def test_a_manifest_is_fetched_by_its_digest(tmp_path: Path) -> None:
    """As any other artifact."""
    store = ArtifactStore(f"file://{tmp_path / 'store'}", tmp_path / "cache")
    (tmp_path / "made").write_bytes(b"manifest")
    stored = store.put(tmp_path / "made")
    target = datasets.fetch_manifest(store, record(stored.digest), tmp_path / "inputs" / "dataset.json")
    assert target.read_bytes() == b"manifest"


def test_a_lost_manifest_is_the_registrations_fault(tmp_path: Path) -> None:
    """No other host and no other time would help."""
    store = ArtifactStore(f"file://{tmp_path / 'store'}", tmp_path / "cache")
    with pytest.raises(DatasetError, match="npuq datasets add small /data --format imagenet") as caught:
        datasets.fetch_manifest(store, record("d" * 64), tmp_path / "dataset.json")
    assert (caught.value.info.blame, caught.value.info.retry) == (Blame.INPUT, False)


def test_a_store_that_is_away_stays_the_fleets_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nobody has to register anything."""

    def away(_digest: str) -> bool:
        raise ArtifactError("cannot reach the artifact store")

    store = ArtifactStore(f"file://{tmp_path / 'store'}", tmp_path / "cache")
    monkeypatch.setattr(store, "exists", away)
    with pytest.raises(ArtifactError, match="cannot reach"):
        datasets.fetch_manifest(store, record("d" * 64), tmp_path / "dataset.json")
