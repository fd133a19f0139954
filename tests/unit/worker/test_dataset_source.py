"""Files of a dataset in the store come when they are asked for: those, verified, to their places, and no others."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from db.artifacts import ArtifactStore
from npuq.canonical_json import canonical_json
from npuq.entry import INSTALLATION
from npuq.errors import ArtifactError, Blame, ChildLostError, NpuqError
from tasks import dataset_requests, datasets
from tasks.dataset_files import check_content, read_registered
from tasks.dataset_manifest import FileEntry
from tasks.dataset_requests import request_file
from tasks.steps import DatasetRef
from tests.services.kept import keep, own_folder
from tests.services.registered import register_folder
from worker import dataset_source
from worker.dataset_source import DatasetSource

IMAGES: Final = 6
ALL: Final = slice(None)


@pytest.fixture(params=["local", "remote"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], ArtifactStore]:
    """Return a maker of stores that share their bytes and have a cache each, as hosts do.

    The remote one is a folder behind fsspec: its driver in memory hands one open file to all readers.
    """
    url = f"{'file' if request.param == 'local' else 'local'}://{tmp_path / 'store'}"
    return lambda host: ArtifactStore(url, tmp_path / "caches" / host)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a dataset of six images, `0.JPEG` to `5.JPEG`."""
    root = tmp_path / "laptop"
    (root / "val").mkdir(parents=True)
    for number in range(IMAGES):
        (root / "val" / f"{number}.JPEG").write_text(f"picture {number}")
    (root / "val_label.txt").write_text("".join(f"{number} {number}\n" for number in range(IMAGES)))
    return root


@pytest.fixture
def kept(make_store: Callable[[str], ArtifactStore], folder: Path, tmp_path: Path) -> DatasetRef:
    """Return that dataset, kept in the store; its folder is gone."""
    ref = keep(make_store("laptop"), register_folder(folder, tmp_path / "manifest.json"))
    shutil.rmtree(folder)
    return ref


@pytest.fixture
def attempt(kept: DatasetRef, tmp_path: Path) -> DatasetRef:
    """Return the dataset as an attempt gets it, before there is anybody to ask."""
    return own_folder(kept, tmp_path / "work" / "dataset")


@pytest.fixture
def store(make_store: Callable[[str], ArtifactStore]) -> ArtifactStore:
    """Return a worker's store."""
    return make_store("worker")


def image(number: int) -> str:
    """Return the path of an image."""
    return f"val/{number}.JPEG"


def entry(dataset: DatasetRef, path: str) -> FileEntry:
    """Return a file as it was registered."""
    return {file.path: file for file in datasets.read_manifest(dataset).files}[path]


def there(dataset: DatasetRef) -> set[str]:
    """Return what lies in the attempt's folder."""
    return {path.relative_to(dataset.root).as_posix() for path in dataset.root.rglob("*") if path.is_file()}


def asking(dataset: DatasetRef, source: DatasetSource) -> DatasetRef:
    """Return the dataset as the attempt's processes see it."""
    return replace(dataset, source=source.address)


def test_a_file_comes_when_it_is_read(store: ArtifactStore, attempt: DatasetRef) -> None:
    """To the place that the dataset's layout gives it, as a link, and nobody may write to it."""
    with DatasetSource(store, attempt, slice(0, 0)) as source:
        ref = asking(attempt, source)
        assert read_registered(ref, entry(ref, "val_label.txt")).startswith(b"0 0\n")
        check_content(ref, entry(ref, image(3)))
        assert there(attempt) == {"val_label.txt", image(3)}
    status = (attempt.root / image(3)).stat()
    assert (status.st_nlink, status.st_mode & 0o222) == (2, 0)


def test_a_dataset_is_opened_out_of_the_store(store: ArtifactStore, attempt: DatasetRef) -> None:
    """Its truth is in its annotations; no image is needed for it."""
    with DatasetSource(store, attempt, slice(0, 0)) as source:
        opened = datasets.open_dataset(asking(attempt, source))
    assert len(opened.image_ids) == IMAGES
    assert there(attempt) == {"val_label.txt"}


def test_a_shard_brings_its_own_images(
    store: ArtifactStore, attempt: DatasetRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that follow the one that is asked for come with it, to the end of the shard and no further."""
    monkeypatch.setattr(dataset_source, "AHEAD", 2)
    with DatasetSource(store, attempt, slice(1, 5)) as source:
        request_file(source.address, image(1))
        source.bring(image(2)).result(10)
        source.bring(image(3)).result(10)
        assert {image(1), image(2), image(3)} <= there(attempt)
    assert there(attempt) <= {image(number) for number in (1, 2, 3, 4)}


@pytest.mark.parametrize(
    "path", ["../../../../etc/passwd", "/etc/passwd", "val", "", "val/../val/0.JPEG", "manifest.json", "x" * 70_000]
)
def test_what_the_manifest_does_not_list_is_not_brought(store: ArtifactStore, attempt: DatasetRef, path: str) -> None:
    """A process that a hostile image took over gets no other file of this host or of the store."""
    with DatasetSource(store, attempt, ALL) as source:
        with pytest.raises(NpuqError):
            request_file(source.address, path)
        assert there(attempt) == set()
        request_file(source.address, image(0))
        assert image(0) in there(attempt)


@pytest.mark.parametrize("path", ["../escaped", "/escaped", "val/../../escaped"])
def test_a_hostile_manifest_brings_nothing(
    store: ArtifactStore, attempt: DatasetRef, tmp_path: Path, path: str
) -> None:
    """It is refused as a whole, whoever put it into the store, and nothing is written anywhere."""
    manifest = datasets.read_manifest(attempt)
    hostile = replace(manifest, samples=(replace(manifest.samples[0], path=path), *manifest.samples[1:]))
    (tmp_path / "hostile.json").write_bytes(hostile.text)
    ref = replace(attempt, manifest=tmp_path / "hostile.json", digest=hostile.digest)
    before = sorted(tmp_path.rglob("*"))
    with DatasetSource(store, ref, ALL) as source, pytest.raises(NpuqError, match="leads out of the dataset"):
        request_file(source.address, path)
    assert sorted(tmp_path.rglob("*")) == before
    assert canonical_json(path) in hostile.text.decode()


def test_a_damaged_file_is_brought_again(store: ArtifactStore, attempt: DatasetRef) -> None:
    """Its reader notices; the copy of the host is sound."""
    with DatasetSource(store, attempt, slice(0, 0)) as source:
        ref = asking(attempt, source)
        check_content(ref, entry(ref, image(0)))
        (attempt.root / image(0)).unlink()
        (attempt.root / image(0)).write_text("damaged 0")
        assert read_registered(ref, entry(ref, image(0))) == b"picture 0"


def test_a_file_that_the_store_lost_holds_the_job_with_the_way_out(
    make_store: Callable[[str], ArtifactStore], store: ArtifactStore, attempt: DatasetRef, tmp_path: Path
) -> None:
    """No other host and no other time would help, until somebody sends it again."""
    lost = entry(attempt, image(0)).sha256
    for path in tmp_path.glob(f"*/*/*/{lost}"):
        path.unlink()
    assert not make_store("anybody").exists(lost)
    with DatasetSource(store, attempt, ALL) as source, pytest.raises(NpuqError) as caught:
        request_file(source.address, image(0))
    info = caught.value.info
    assert info.message.startswith("val/0.JPEG of the dataset 'small': ")
    assert info.message.endswith("send it again: npuq datasets add small FOLDER --format imagenet --store")
    assert (info.blame, info.retry) == (Blame.FLEET, False)


def test_a_store_that_is_away_is_the_fleets_trouble(
    store: ArtifactStore, attempt: DatasetRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt ends, the job is tried again later; one that comes back is used at once."""
    fetch = store.fetch

    def away(_digest: str) -> Path:
        raise ArtifactError("cannot reach the artifact store")

    with DatasetSource(store, attempt, ALL) as source:
        monkeypatch.setattr(store, "fetch", away)
        with pytest.raises(NpuqError, match=r"val/0\.JPEG of the dataset 'small': cannot reach") as caught:
            request_file(source.address, image(0))
        assert (caught.value.info.blame, caught.value.info.retry) == (Blame.FLEET, True)
        monkeypatch.setattr(store, "fetch", fetch)
        request_file(source.address, image(0))


def test_a_full_disk_is_the_hosts_trouble(
    store: ArtifactStore, attempt: DatasetRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another host may have room; the sentence says where to make some."""

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(shutil, "copyfile", full)
    with DatasetSource(store, attempt, ALL) as source, pytest.raises(NpuqError) as caught:
        request_file(source.address, image(0))
    assert "No space left on device" in str(caught.value)
    assert "artifact_cache_bytes" in str(caught.value)
    assert (caught.value.info.blame, caught.value.info.retry) == (Blame.HOST, True)
    assert there(attempt) == set()


def test_two_attempts_may_want_the_same_images_at_once(store: ArtifactStore, kept: DatasetRef, tmp_path: Path) -> None:
    """Each gets them all, sound; the host keeps one copy of each."""
    attempts = [own_folder(kept, tmp_path / name / "dataset") for name in ("one", "other")]
    begin = threading.Barrier(2 * IMAGES)
    failed: list[Exception] = []

    def want(ref: DatasetRef, number: int) -> None:
        begin.wait(10)
        try:
            check_content(ref, entry(ref, image(number)))
        except Exception as error:  # noqa: BLE001 - asserted on below
            failed.append(error)

    with DatasetSource(store, attempts[0], ALL) as first, DatasetSource(store, attempts[1], ALL) as second:
        refs = [asking(ref, source) for ref, source in zip(attempts, (first, second), strict=True)]
        threads = [threading.Thread(target=want, args=(ref, number)) for ref in refs for number in range(IMAGES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert failed == []
    assert there(attempts[0]) == there(attempts[1]) == {image(number) for number in range(IMAGES)}
    assert [path.name for path in tmp_path.glob("caches/*/*/*/.*")] == []


WORKER = """
import os, sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from db.artifacts import ArtifactStore
from tasks.datasets import read_manifest
from tasks.dataset_files import check_content
from tasks.steps import DatasetRef
from worker.dataset_source import DatasetSource
url, cache, root, manifest, digest, samples = sys.argv[2:]
places = {"root": Path(root), "manifest": Path(manifest)}
ref = DatasetRef(name="small", format="imagenet", digest=digest, samples=int(samples), **places)
ref.root.mkdir(parents=True)
store = ArtifactStore(url, Path(cache), cache_bytes=30)
with DatasetSource(store, ref, slice(None)) as source:
    ours = replace(ref, source=source.address)
    print("ready", flush=True)
    sys.stdin.readline()
    for file in read_manifest(ref).files:
        check_content(ours, file)
        print(file.path, flush=True)
"""


def test_processes_share_a_small_cache_and_one_may_be_killed(folder: Path, tmp_path: Path) -> None:
    """Two workers of one host, whose cache holds three images of six; the third dies in the middle of it."""
    url = f"local://{tmp_path / 'remote'}"
    ref = keep(ArtifactStore(url, tmp_path / "laptop-cache"), register_folder(folder, tmp_path / "manifest.json"))
    shared = [url, str(tmp_path / "cache")]
    known = [str(ref.manifest), ref.digest, str(ref.samples)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(INSTALLATION), *shared, str(tmp_path / name), *known],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b", "killed")
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    victim = workers.pop()
    assert victim.stdout is not None
    victim.stdout.readline()
    victim.send_signal(signal.SIGKILL)
    victim.communicate(timeout=20)
    for name, worker in zip("ab", workers, strict=True):
        told, _ = worker.communicate(timeout=40)
        assert worker.returncode == 0
        assert len(told.split()) == IMAGES + 1
        assert sorted(path.read_text() for path in (tmp_path / name / "val").iterdir()) == [
            f"picture {number}" for number in range(IMAGES)
        ]
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert sum(path.stat().st_size for path in left) <= 100  # of three writers, each with room for thirty bytes


def test_after_the_attempt_nobody_answers_and_nothing_comes(
    store: ArtifactStore, attempt: DatasetRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end waits for what is on its way, and drops what is not; the folder can be removed for good."""
    fetch, fetching, go_on = store.fetch, threading.Event(), threading.Event()

    def slow(digest: str) -> Path:
        fetching.set()
        assert go_on.wait(20)
        return fetch(digest)

    monkeypatch.setattr(store, "fetch", slow)
    monkeypatch.setattr(dataset_source, "THREADS", 1)
    with DatasetSource(store, attempt, ALL) as source:
        source.bring(image(0))
        dropped = source.bring(image(1))
        assert fetching.wait(20)
        threading.Timer(0.05, go_on.set).start()
    assert dropped.cancelled()
    assert there(attempt) == {image(0)}
    with pytest.raises(ChildLostError, match="does not answer"):
        request_file(source.address, image(1))


def test_a_store_that_never_delivers_ends_the_wait(
    store: ArtifactStore, attempt: DatasetRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the pool of feeders takes its feeder to be stuck."""
    go_on = threading.Event()
    fetch = store.fetch
    monkeypatch.setattr(store, "fetch", lambda digest: fetch(digest) if go_on.wait(20) else digest)
    monkeypatch.setattr(dataset_requests, "WAIT_SECONDS", 0.05)
    with DatasetSource(store, attempt, ALL) as source:
        with pytest.raises(ArtifactError, match=r"has not delivered 0\.JPEG within 0\.05 s") as caught:
            request_file(source.address, image(0))
        go_on.set()
    assert (caught.value.info.blame, caught.value.info.retry) == (Blame.FLEET, True)


@pytest.mark.parametrize("question", [b"", b"\n", b"not JSON\n", b"[]\n", b'{"path": 7}\n', b"{" * 100_000])
def test_who_asks_nonsense_is_not_answered(store: ArtifactStore, attempt: DatasetRef, question: bytes) -> None:
    """And the next one is."""
    with DatasetSource(store, attempt, ALL) as source:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(f"\0{source.address}")
            try:
                channel.sendall(question)
                channel.shutdown(socket.SHUT_WR)
                answer = channel.recv(1000)
            except ConnectionError:
                answer = b""
        assert b'"error": null' not in answer
        request_file(source.address, image(0))


def test_another_user_is_not_answered(
    store: ArtifactStore, attempt: DatasetRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of such sockets are open to everybody on the host."""
    with DatasetSource(store, attempt, ALL) as source:
        monkeypatch.setattr(os, "getuid", lambda: 12_345)
        with pytest.raises(ChildLostError):
            request_file(source.address, image(0))
        assert there(attempt) == set()
