"""What lies in an attempt's folder before its step begins: where a dataset comes from, and which part of it is used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db import datasets
from db.artifacts import ArtifactStore, digest_of
from npuq.errors import ArtifactError, Blame, DatasetError, DatasetMissingError
from npuq.states import JobKind
from tasks.dataset_files import check_content, read_registered
from tasks.datasets import chosen_samples, open_dataset, open_manifest, read_manifest
from tasks.steps import DatasetRef, StepRequest
from tests.services.kept import keep
from tests.services.registered import register_folder
from tests.services.waiting import wait_until
from tests.services.world import World
from tests.unit.worker.test_provenance import assignment
from worker.workspace import Workspace

IMAGES = 4


@pytest.fixture
def ref(tmp_path: Path) -> DatasetRef:
    """Return a folder of four images, `0` to `3`, and its manifest."""
    root = tmp_path / "usual"
    (root / "val").mkdir(parents=True)
    for number in range(IMAGES):
        (root / "val" / f"{number}.JPEG").write_text(f"picture {number}")
    (root / "val_label.txt").write_text("".join(f"{number} {number}\n" for number in range(IMAGES)))
    return register_folder(root, tmp_path / "manifest.json")


@pytest.fixture
def store(tmp_path: Path, ref: DatasetRef) -> ArtifactStore:
    """Return a store with the manifest and no image."""
    found = ArtifactStore(f"file://{tmp_path / 'store'}", tmp_path / "unused")
    found.put(ref.manifest)
    return found


@pytest.fixture
def put(sqlite_world: World, ref: DatasetRef) -> Callable[..., None]:
    """Return a function that registers the dataset, with changes."""

    def register(**changes: Any) -> None:
        values = {"format": ref.format, "root": str(ref.root), "digest": ref.digest, "samples": ref.samples}
        sqlite_world.transact(datasets.put, name=ref.name, **(values | changes))

    return register


@pytest.fixture
def open_workspace(tmp_path: Path, ref: DatasetRef) -> Callable[..., Workspace]:
    """Return a maker of workspaces of jobs that use the dataset."""

    def make(kind: JobKind = JobKind.INFER, inputs: dict[str, Any] | None = None, **params: Any) -> Workspace:
        values: dict[str, Any] = {"dataset": ref.name, "dataset_digest": ref.digest}
        values |= {"start": 0, "stop": 2} if kind is JobKind.INFER else {}
        return Workspace(tmp_path / "work", assignment(kind, params=values | params, inputs=inputs or {}))

    return make


Open = Callable[..., Workspace]


def dataset_of(request: StepRequest) -> DatasetRef:
    """Return the dataset of a request."""
    assert request.dataset is not None
    return request.dataset


def test_a_dataset_lies_in_its_folder(
    sqlite_world: World, store: ArtifactStore, ref: DatasetRef, put: Callable[..., None], open_workspace: Open
) -> None:
    """In the usual one, or in the one of this host."""
    put()
    with open_workspace() as workspace:
        found = dataset_of(workspace.request(sqlite_world.database, store))
    assert (found.root, found.source, found.host) == (ref.root, None, "h1")
    own = ref.root.rename(ref.root.with_name("own"))
    for host in ("h1", "h2"):
        sqlite_world.transact(datasets.put_folder, name=ref.name, host=host, root=str(own.with_name(f"own-{host}")))
    own.rename(own.with_name("own-h1"))
    with open_workspace() as workspace:
        found = dataset_of(workspace.request(sqlite_world.database, store))
        assert len(open_manifest(found).samples) == IMAGES
    assert (found.root, found.source) == (own.with_name("own-h1"), None)


def test_a_dataset_without_a_folder_and_not_in_the_store_is_the_hosts_trouble(
    sqlite_world: World, store: ArtifactStore, ref: DatasetRef, put: Callable[..., None], open_workspace: Open
) -> None:
    """As ever; the ways out are told."""
    put(root="/nowhere")
    with open_workspace() as workspace:
        found = dataset_of(workspace.request(sqlite_world.database, store))
        with pytest.raises(DatasetMissingError, match=r"npuq datasets add small FOLDER --host HOST") as caught:
            open_manifest(found)
    assert (caught.value.info.blame, caught.value.info.retry) == (Blame.HOST, False)
    assert "npuq datasets add small FOLDER --store" in str(caught.value)


@pytest.mark.parametrize("folder", [None, "gone"])
def test_a_dataset_in_the_store_comes_from_there(
    sqlite_world: World,
    store: ArtifactStore,
    ref: DatasetRef,
    put: Callable[..., None],
    open_workspace: Open,
    tmp_path: Path,
    folder: str | None,
) -> None:
    """Also where the host's own folder is gone; the folder that it was registered from means nothing here."""
    keep(store, ref)
    put(in_store=True)
    if folder is not None:
        sqlite_world.transact(datasets.put_folder, name=ref.name, host="h1", root=str(tmp_path / folder))
    with open_workspace() as workspace:
        found = dataset_of(workspace.request(sqlite_world.database, store))
        assert found.root != ref.root
        assert list(found.root.iterdir()) == []
        manifest = open_manifest(found)
        check_content(found, manifest.samples[0])
        assert read_registered(found, manifest.annotations[0]).startswith(b"0 0")
        brought = {"0.JPEG", "1.JPEG"}  # the second of them ahead, while the first is read
        wait_until(lambda: {path.name for path in (found.root / "val").iterdir()} == brought, "the next is brought")
    assert list((tmp_path / "work").iterdir()) == []
    assert len(read_manifest(ref).samples) == IMAGES


def test_a_hosts_own_folder_goes_before_the_store(
    sqlite_world: World, store: ArtifactStore, ref: DatasetRef, put: Callable[..., None], open_workspace: Open
) -> None:
    """Somebody put it there so that nothing has to be fetched."""
    keep(store, ref)
    put(in_store=True, root="/laptop")
    sqlite_world.transact(datasets.put_folder, name=ref.name, host="h1", root=str(ref.root))
    with open_workspace() as workspace:
        found = dataset_of(workspace.request(sqlite_world.database, store))
    assert (found.root, found.source) == (ref.root, None)


def test_a_scoring_brings_labels_only(
    sqlite_world: World, store: ArtifactStore, ref: DatasetRef, put: Callable[..., None], open_workspace: Open
) -> None:
    """Its truth needs no image."""
    keep(store, ref)
    put(in_store=True)
    with open_workspace(JobKind.EVALUATE, limit=3) as workspace:
        found = dataset_of(workspace.request(sqlite_world.database, store))
        assert tuple(open_dataset(found, limit=3).image_ids) == ("0", "1", "2")
        assert [path.name for path in found.root.iterdir()] == ["val_label.txt"]


def test_a_list_of_images_is_an_input(
    sqlite_world: World,
    store: ArtifactStore,
    put: Callable[..., None],
    open_workspace: Open,
    tmp_path: Path,
) -> None:
    """The step finds it with the dataset; one that the store has lost holds the job."""
    put()
    (tmp_path / "part").write_text("1\n3\n")
    digest = digest_of(tmp_path / "part").digest
    given = {"inputs": {"images": (digest,)}, "images": {"digest": digest, "count": 2}}
    with open_workspace(**given) as workspace, pytest.raises(ArtifactError):
        workspace.request(sqlite_world.database, store)
    store.put(tmp_path / "part")
    with open_workspace(**given) as workspace:
        found = dataset_of(workspace.request(sqlite_world.database, store))
        assert [sample.image_id for sample in chosen_samples(found, read_manifest(found))] == ["1", "3"]


@pytest.mark.parametrize("in_store", [False, True])
@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_a_dataset_that_changed_under_a_run_is_told(
    sqlite_world: World,
    store: ArtifactStore,
    ref: DatasetRef,
    put: Callable[..., None],
    open_workspace: Open,
    change: str,
    *,
    in_store: bool,
) -> None:
    """A job that begins afterwards is refused; one that runs goes on with what it began with."""
    keep(store, ref)
    put(in_store=in_store)
    with open_workspace() as running:
        found = dataset_of(running.request(sqlite_world.database, store))
        if change == "replaced":
            put(in_store=in_store, digest="e" * 64)
        else:
            sqlite_world.transact(datasets.remove, ref.name)
        check_content(found, read_manifest(found).samples[1])
        with open_workspace() as later, pytest.raises(DatasetError, match="submit the run again") as caught:
            later.request(sqlite_world.database, store)
    assert (caught.value.info.blame, caught.value.info.retry) == (Blame.INPUT, False)
