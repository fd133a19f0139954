import errno
import os
import resource
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db import artifacts
from db.artifacts import ArtifactStore, digest_of, materialise
from db.local_files import SourceError, place
from db.records import NewArtifact
from db.remote_files import RemoteFiles
from db.tables import Artifact
from npuq.entry import INSTALLATION
from npuq.errors import ArtifactError, Blame, ConfigError
from tests.services.world import World

CONTENT = b"weights" * 50_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file to store."""
    path = tmp_path / "model.om"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture(params=["folder", "memory", "folders"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], ArtifactStore]:
    """Return a maker of stores that share their bytes and have a cache each.

    A folder of this host; and behind fsspec, one that needs no folders and one that does.
    """
    urls = {
        "folder": f"file://{tmp_path / 'store'}",
        "memory": f"memory://{uuid.uuid4().hex}",
        "folders": f"local://{tmp_path / 'remote'}",
    }
    return lambda cache: ArtifactStore(urls[request.param], tmp_path / "caches" / cache)


@pytest.fixture
def local(tmp_path: Path) -> ArtifactStore:
    """Return a store in a folder."""
    return ArtifactStore(str(tmp_path / "store"), tmp_path / "unused")


def files_in(folder: Path) -> list[Path]:
    """Return every file below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_is_stored_comes_back_under_its_digest(make_store: Callable[[str], ArtifactStore], file: Path) -> None:
    """Another host with an empty cache gets the same bytes; progress adds up to the size."""
    pieces: list[int] = []
    stored = make_store("here").put(file, pieces.append)
    assert stored == digest_of(file)
    assert sum(pieces) == stored.size_bytes == len(CONTENT)
    elsewhere = make_store("there")
    assert elsewhere.exists(stored.digest)
    assert elsewhere.fetch(stored.digest).read_bytes() == CONTENT


def test_equal_content_is_stored_once(make_store: Callable[[str], ArtifactStore], file: Path, tmp_path: Path) -> None:
    """The second upload sends nothing and still reports its progress."""
    store = make_store("here")
    store.put(file)
    twin = tmp_path / "twin"
    twin.write_bytes(CONTENT)
    before = files_in(tmp_path)
    pieces: list[int] = []
    store.put(twin, pieces.append)
    assert files_in(tmp_path) == before
    assert pieces == [len(CONTENT)]


def test_what_is_not_there_is_told_and_not_tried_again(make_store: Callable[[str], ArtifactStore]) -> None:
    """A missing artifact is no outage."""
    store = make_store("here")
    assert not store.exists("0" * 64)
    with pytest.raises(ArtifactError) as caught:
        store.fetch("0" * 64)
    assert not caught.value.info.retry


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"X" + b[1:], lambda b: b + b"\0", lambda _: b""])
def test_damaged_bytes_are_set_aside_and_can_be_made_again(
    local: ArtifactStore, file: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    """Cut, flipped, grown or emptied: never used, kept for a look, and the name is free again."""
    digest = local.put(file).digest
    stored = local.fetch(digest)
    stored.chmod(0o644)
    stored.write_bytes(damage(CONTENT))
    with pytest.raises(ArtifactError, match="damaged and was set aside") as caught:
        local.fetch(digest)
    assert caught.value.info.retry
    assert len(files_in(tmp_path / "store" / "damaged")) == 1
    assert not local.exists(digest)
    local.put(file)
    assert local.fetch(digest).read_bytes() == CONTENT


def test_damage_in_a_remote_store_is_set_aside_too(tmp_path: Path, file: Path) -> None:
    """Else it would be found, and reused, for ever."""
    import fsspec

    url = f"memory://{uuid.uuid4().hex}"
    digest = ArtifactStore(url, tmp_path / "first").put(file).digest
    remote: Any = fsspec.filesystem("memory")
    (key,) = [name for name in remote.find(url.removeprefix("memory:/")) if name.endswith(digest)]
    remote.pipe_file(key, b"damaged")
    second = ArtifactStore(url, tmp_path / "second")
    with pytest.raises(ArtifactError, match="damaged"):
        second.fetch(digest)
    assert not second.exists(digest)
    assert files_in(tmp_path / "second") == []
    second.put(file)
    assert ArtifactStore(url, tmp_path / "third").fetch(digest).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("garbled", "error"),
    [((b"cut",), None), ((b"cut", b"garbled"), None), ((b"1", b"2", b"3"), "other bytes each of 3 times")],
)
def test_what_is_damaged_on_the_way_costs_the_store_nothing(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, garbled: tuple[bytes, ...], error: str | None
) -> None:
    """It is brought again, and the store keeps its sound bytes whatever came."""
    url = f"local://{tmp_path / 'remote'}"
    digest = ArtifactStore(url, tmp_path / "first").put(file).digest
    arriving = iter(garbled)
    download = RemoteFiles.download

    def bad_line(remote: RemoteFiles, key: str, target: Path) -> None:
        download(remote, key, target)
        target.write_bytes(next(arriving, CONTENT))

    monkeypatch.setattr(RemoteFiles, "download", bad_line)
    second = ArtifactStore(url, tmp_path / "second")
    if error is None:
        assert second.fetch(digest).read_bytes() == CONTENT
    else:
        with pytest.raises(ArtifactError, match=error) as caught:
            second.fetch(digest)
        assert caught.value.info.retry
        assert files_in(tmp_path / "second") == []
    assert second.exists(digest)


def test_a_damaged_copy_in_the_cache_is_fetched_anew(tmp_path: Path, file: Path) -> None:
    """The store still has the bytes; the next try gets them."""
    url = f"memory://{uuid.uuid4().hex}"
    store = ArtifactStore(url, tmp_path / "cache")
    digest = store.put(file).digest
    cached = store.fetch(digest)
    cached.chmod(0o644)
    cached.write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="set aside"):
        store.fetch(digest)
    assert store.fetch(digest).read_bytes() == CONTENT


def test_a_full_disk_of_this_host_is_no_outage_of_the_store(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says where to make room."""
    import fsspec

    url = f"memory://{uuid.uuid4().hex}"
    digest = ArtifactStore(url, tmp_path / "here").put(file).digest

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "get_file", full)
    with pytest.raises(ArtifactError, match="artifact_cache_bytes") as caught:
        ArtifactStore(url, tmp_path / "elsewhere").fetch(digest)
    assert (caught.value.info.blame, caught.value.info.retry) == (Blame.HOST, True)


def test_a_host_that_cannot_hold_a_copy_is_to_blame(local: ArtifactStore, file: Path, tmp_path: Path) -> None:
    """Another host may; the store is sound."""
    digest = local.put(file).digest
    (tmp_path / "work").write_text("a file where the folder should be")
    with pytest.raises(ArtifactError, match="this host cannot hold a copy") as caught:
        materialise(local, digest, tmp_path / "work" / "om0.om")
    assert (caught.value.info.blame, caught.value.info.code) == (Blame.HOST, "host_io")


def test_one_of_many_files_is_sent_once_and_not_kept_here(
    make_store: Callable[[str], ArtifactStore], file: Path, tmp_path: Path
) -> None:
    """Nor is it hashed to be asked for; another host gets it."""
    store, known = make_store("here"), digest_of(file)
    assert store.put_known(file, known)
    assert not store.put_known(file, known)
    assert files_in(tmp_path / "caches" / "here") == []
    file.unlink()
    assert not store.put_known(file, known)
    assert make_store("there").fetch(known.digest).read_bytes() == CONTENT


@pytest.mark.parametrize("change", [lambda file: file.write_bytes(b"other"), lambda file: file.unlink()])
def test_one_of_many_files_that_changed_is_not_the_stores_fault(
    make_store: Callable[[str], ArtifactStore], file: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    """What was hashed is not what is there now; nothing gets its name."""
    store, known = make_store("here"), digest_of(file)
    change(file)
    with pytest.raises(SourceError, match=r"model\.om (changed while|cannot be read)"):
        store.put_known(file, known)
    assert not store.exists(known.digest)
    assert files_in(tmp_path / "caches") == files_in(tmp_path / "store") == []


def test_copies_of_what_was_uploaded_are_bounded_too(tmp_path: Path, file: Path) -> None:
    """A client that only uploads does not fill its disk."""
    store = ArtifactStore(f"memory://{uuid.uuid4().hex}", tmp_path / "cache", cache_bytes=len(CONTENT))
    store.put(file)
    file.write_bytes(CONTENT[::-1])
    newest = store.put(file).digest
    assert [path.name for path in files_in(tmp_path / "cache")] == [newest]


def test_a_copy_that_another_process_drops_is_fetched_again(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at it and the link; it gives up only when that goes on."""
    url = f"memory://{uuid.uuid4().hex}"
    digest = ArtifactStore(url, tmp_path / "here").put(file).digest
    store = ArtifactStore(url, tmp_path / "there")
    lost: list[Path] = []

    def dropped(source: Path, target: Path) -> Path:
        if len(lost) < times:
            source.unlink()
            lost.append(source)
        return place(source, target)

    monkeypatch.setattr("db.artifacts.place", dropped)
    times = 2
    assert materialise(store, digest, tmp_path / "work" / "om0").read_bytes() == CONTENT
    lost.clear()
    times = 9
    with pytest.raises(ArtifactError, match="cannot hold a copy"):
        materialise(store, digest, tmp_path / "work" / "om1")


def test_what_others_write_now_is_not_dropped_to_make_room(tmp_path: Path, file: Path) -> None:
    """Only what nobody has touched for an hour: its writer is dead."""
    store = ArtifactStore(f"memory://{uuid.uuid4().hex}", tmp_path / "cache", cache_bytes=1)
    writing, abandoned = (tmp_path / "cache" / "aa" / "bb" / name for name in (".writing", ".abandoned"))
    writing.parent.mkdir(parents=True)
    for path in (writing, abandoned):
        path.write_bytes(CONTENT)
    os.utime(abandoned, (0, 0))
    digest = store.put(file).digest
    assert {path.name for path in files_in(tmp_path / "cache")} == {".writing", digest}


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from db.artifacts import ArtifactStore
Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
ArtifactStore(sys.argv[2], Path(sys.argv[3])).put(Path(sys.argv[4]))
"""


def test_a_kill_before_the_rename_leaves_no_name(local: ArtifactStore, file: Path, tmp_path: Path) -> None:
    """Everything is written and nothing has its final name; storing it again succeeds."""
    command = [sys.executable, "-c", KILLED, str(INSTALLATION), str(tmp_path / "store"), str(tmp_path), str(file)]
    assert subprocess.run(command, check=False, timeout=30).returncode == -9
    digest = digest_of(file).digest
    assert not local.exists(digest)
    assert [path.name.startswith(".") for path in files_in(tmp_path / "store")] == [True]
    assert local.fetch(local.put(file).digest).read_bytes() == CONTENT


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from db.artifacts import ArtifactStore
from npuq.errors import ArtifactError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    ArtifactStore(sys.argv[2], Path(sys.argv[3])).put(Path(sys.argv[4]))
except ArtifactError as error:
    print(error.info.retry, error)
"""


def test_a_full_disk_leaves_nothing_behind(local: ArtifactStore, file: Path, tmp_path: Path) -> None:
    """The error says that the store cannot be written, another try may help, and no temporary file stays."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000
    command = [sys.executable, "-c", FULL, str(INSTALLATION), str(tmp_path / "store"), str(tmp_path), str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    assert done.stdout.startswith("True cannot write to the artifact store")
    assert files_in(tmp_path / "store") == []
    assert not local.exists(digest_of(file).digest)


def test_a_file_that_changes_while_it_is_stored_is_refused(local: ArtifactStore, file: Path, tmp_path: Path) -> None:
    """The digest is of the bytes that were written, or nothing is stored."""
    file.write_bytes(CONTENT * 10)  # more than one piece
    with pytest.raises(ArtifactError, match="changed while it was read"):
        local.put(file, lambda _count: _touch_end(file))
    assert files_in(tmp_path / "store") == []


def _touch_end(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"X")


def test_materialised_files_replace_what_was_there(local: ArtifactStore, file: Path, tmp_path: Path) -> None:
    """A link where possible; twice is once."""
    digest = local.put(file).digest
    target = tmp_path / "work" / "inputs" / "om0.om"
    for _ in range(2):
        assert materialise(local, digest, target).read_bytes() == CONTENT
    assert target.stat().st_mode & 0o222 == 0


def test_a_store_without_its_driver_is_a_setting_to_correct(tmp_path: Path) -> None:
    """The message names the setting and hides the password."""
    with pytest.raises(ConfigError, match="store_url") as caught:
        ArtifactStore("nosuch://user:s3cret@host/store", tmp_path)
    assert "s3cret" not in str(caught.value)


def test_rows_of_artifacts_are_recorded_once(world: World) -> None:
    """Two jobs may store equal bytes, also both in one call; the first row stays."""
    world.transact(artifacts.record, [NewArtifact(digest="1" * 64, size_bytes=5)])
    world.transact(artifacts.record, [NewArtifact(digest=digit * 64, size_bytes=9) for digit in "122"])
    world.transact(artifacts.record, [])
    with world.database.read() as connection:
        rows = connection.execute(select(Artifact.digest, Artifact.size_bytes).order_by(Artifact.digest)).all()
    assert [tuple(row) for row in rows] == [("1" * 64, 5), ("2" * 64, 9)]


def test_thousands_of_rows_are_recorded_in_a_few_statements(world: World) -> None:
    """A dataset has that many files."""
    many = [NewArtifact(digest=f"{number:064x}", size_bytes=number) for number in range(1_001)]
    world.transact(artifacts.record, many)
    with world.database.read() as connection:
        rows = connection.execute(select(Artifact.digest, Artifact.size_bytes).order_by(Artifact.digest)).all()
    assert [tuple(row) for row in rows] == [(item.digest, item.size_bytes) for item in many]
