"""The artifact store over S3: a real server process, real signatures, a key with the rights of docs/deploy.md."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from s3fs import S3FileSystem

from db import remote_files
from db.artifacts import ArtifactStore, digest_of
from npuq.entry import INSTALLATION
from npuq.errors import ArtifactError
from tests.services.certificates import Certificates
from tests.services.s3_server import BUCKET, S3Server
from tests.services.tls_proxy import TlsProxy

PARTS = 2
LARGE_BYTES = PARTS * remote_files.PART_BYTES + 1


@pytest.fixture
def url() -> str:
    """Return a store of its own in the bucket."""
    return f"s3://{BUCKET}/{secrets.token_hex(4)}"


@pytest.fixture
def make_store(s3_server: S3Server, url: str, tmp_path: Path) -> Callable[[str], ArtifactStore]:
    """Return a maker of stores that share their bytes and have a cache each, as hosts do."""
    return lambda host: ArtifactStore(url, tmp_path / "caches" / host)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file to store."""
    path = tmp_path / "model.om"
    path.write_bytes(secrets.token_bytes(50_000))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Return a file that goes in several parts."""
    path = tmp_path / "weights.pth"
    path.write_bytes(secrets.token_bytes(LARGE_BYTES))
    return path


def keys_of(server: S3Server, url: str) -> list[str]:
    """Return what lies in a store, without its folder."""
    folder = url.removeprefix(f"s3://{BUCKET}/")
    return [key.removeprefix(f"{folder}/") for key in server.names() if key.startswith(folder)]


def test_what_one_host_stores_another_host_gets(
    make_store: Callable[[str], ArtifactStore], s3_server: S3Server, url: str, file: Path
) -> None:
    """One object under the digest, nothing beside it; its absence was not remembered by who asked before."""
    digest = digest_of(file).digest
    elsewhere = make_store("elsewhere")
    assert not elsewhere.exists(digest)
    pieces: list[int] = []
    make_store("here").put(file, pieces.append)
    assert sum(pieces) == file.stat().st_size
    assert keys_of(s3_server, url) == [f"{digest[:2]}/{digest[2:4]}/{digest}"]
    assert elsewhere.exists(digest)
    assert elsewhere.fetch(digest).read_bytes() == file.read_bytes()


def test_a_large_file_goes_in_parts(make_store: Callable[[str], ArtifactStore], large: Path) -> None:
    """It comes back whole, and its progress was told part by part."""
    pieces: list[int] = []
    digest = make_store("here").put(large, pieces.append).digest
    assert len(pieces) == PARTS + 1
    assert sum(pieces) == LARGE_BYTES
    assert make_store("elsewhere").fetch(digest).stat().st_size == LARGE_BYTES


def test_equal_bytes_may_be_stored_by_many_at_once(
    make_store: Callable[[str], ArtifactStore], s3_server: S3Server, url: str, file: Path
) -> None:
    """Every writer succeeds, one object is there, and it is sound."""
    begin = threading.Barrier(4)

    def put(host: int) -> str:
        store = make_store(str(host))
        begin.wait(10)
        return store.put(file).digest

    with ThreadPoolExecutor(4) as hosts:
        (digest,) = set(hosts.map(put, range(4)))
    assert len(keys_of(s3_server, url)) == 1
    assert make_store("reader").fetch(digest).read_bytes() == file.read_bytes()


def test_many_small_files_go_at_once_and_only_once(
    make_store: Callable[[str], ArtifactStore], s3_server: S3Server, url: str, tmp_path: Path
) -> None:
    """As the files of a dataset do; no copy stays on the laptop, and a worker gets each under its name."""
    files = [tmp_path / f"{number}.JPEG" for number in range(40)]
    for path in files:
        path.write_bytes(secrets.token_bytes(2_000))
    known = {path: digest_of(path) for path in files}
    laptop, worker = make_store("laptop"), make_store("worker")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(laptop.put_known, known.keys(), known.values())) == {True}
        assert set(pool.map(laptop.put_known, known.keys(), known.values())) == {False}
        fetched = list(pool.map(lambda item: worker.fetch(item.digest).read_bytes(), known.values()))
    assert fetched == [path.read_bytes() for path in files]
    assert sorted(key[6:] for key in keys_of(s3_server, url)) == sorted(item.digest for item in known.values())
    assert [path for path in (tmp_path / "caches" / "laptop").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("status", "again"), [(500, True), (503, True), (403, False), (404, False), (None, False)])
def test_what_the_server_failed_at_is_asked_again(status: int | None, *, again: bool) -> None:
    """One of thousands of requests fails so; what it refuses it refuses the next time too."""
    answer = {} if status is None else {"ResponseMetadata": {"HTTPStatusCode": status}}
    assert remote_files.is_servers_trouble(ClientError(answer, "PutObject")) is again
    assert not remote_files.is_servers_trouble(OSError("no answer at all"))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from db.artifacts import ArtifactStore
ArtifactStore(sys.argv[2], Path(sys.argv[3])).put(Path(sys.argv[4]), lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_an_upload_that_is_killed_leaves_no_name(
    make_store: Callable[[str], ArtifactStore], s3_server: S3Server, url: str, large: Path, tmp_path: Path
) -> None:
    """Some parts are there and no object; storing it again succeeds."""
    command = [sys.executable, "-c", KILLED, str(INSTALLATION), url, str(tmp_path / "killed"), str(large)]
    assert subprocess.run(command, check=False, timeout=40).returncode == -signal.SIGKILL
    digest = digest_of(large).digest
    assert keys_of(s3_server, url) == []
    store = make_store("again")
    assert not store.exists(digest)
    store.put(large)
    assert make_store("elsewhere").fetch(digest).stat().st_size == LARGE_BYTES


def test_damage_in_the_bucket_is_set_aside(
    make_store: Callable[[str], ArtifactStore], s3_server: S3Server, url: str, file: Path
) -> None:
    """It is told once, kept for a look, and can be made again."""
    digest = make_store("here").put(file).digest
    client = s3_server.client()
    key = f"{url.removeprefix(f's3://{BUCKET}/')}/{digest[:2]}/{digest[2:4]}/{digest}"
    client.put_object(Bucket=BUCKET, Key=key, Body=b"damaged")
    client.close()
    elsewhere = make_store("elsewhere")
    with pytest.raises(ArtifactError, match="damaged and was set aside"):
        elsewhere.fetch(digest)
    assert not elsewhere.exists(digest)
    assert [name.split(".")[0] for name in keys_of(s3_server, url)] == [f"damaged/{digest}"]
    elsewhere.put(file)
    assert make_store("third").fetch(digest).read_bytes() == file.read_bytes()


def test_an_absent_key_is_final_and_an_absent_bucket_is_not(
    make_store: Callable[[str], ArtifactStore], tmp_path: Path, file: Path
) -> None:
    """The input of one job is gone; or nobody has made the bucket yet, which holds no job for ever."""
    with pytest.raises(ArtifactError, match="lacks") as gone:
        make_store("here").fetch("0" * 64)
    assert not gone.value.info.retry
    nowhere = ArtifactStore("s3://no-such-bucket", tmp_path / "nowhere")
    for call in (lambda: nowhere.put(file), lambda: nowhere.fetch("0" * 64)):
        with pytest.raises(ArtifactError) as missing:
            call()
        assert missing.value.info.retry


@pytest.mark.parametrize(
    ("variable", "value"),
    [("AWS_ACCESS_KEY_ID", "AKIANOBODY"), ("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ACCESS_KEY_ID", None)],
)
def test_wrong_or_no_credentials_are_told_as_such(
    make_store: Callable[[str], ArtifactStore],
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str | None,
) -> None:
    """The message names the variables, not the secret; jobs wait until it is mended."""
    if value is None:
        monkeypatch.delenv(variable)
        monkeypatch.setenv("HOME", "/nonexistent")
    else:
        monkeypatch.setenv(variable, value)
    with pytest.raises(ArtifactError, match="AWS_SECRET_ACCESS_KEY") as caught:
        make_store("here").put(file)
    assert caught.value.info.retry
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)


def test_an_endpoint_that_nobody_serves_is_told(
    make_store: Callable[[str], ArtifactStore], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says where npuq looks for it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    with pytest.raises(ArtifactError, match="AWS_ENDPOINT_URL_S3") as caught:
        make_store("here").put(file)
    assert caught.value.info.retry


@pytest.mark.parametrize("method", ["download", "upload"])
def test_an_endpoint_that_falls_silent_is_given_up(
    s3_server: S3Server, url: str, large: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Whether it never answers, or stops reading in the middle of an upload."""
    monkeypatch.setattr(remote_files, "CALL_LIMIT_SECONDS", 1.0)
    monkeypatch.setattr(remote_files, "SLOWEST_BYTES_PER_SECOND", 2**40)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{silent.getsockname()[1]}")
        files = remote_files.RemoteFiles(url)
        arguments = (large, "00/00/0") if method == "upload" else ("00/00/0", large)
        with pytest.raises(ArtifactError, match="check that it is up") as caught:
            getattr(files, method)(*arguments)
    assert caught.value.info.retry


def test_the_waits_of_s3s_own_driver_are_bounded(s3_server: S3Server, url: str) -> None:
    """Its defaults are five tries of a minute each, five times over."""
    files = remote_files.RemoteFiles(url)
    driver = files._fs
    assert isinstance(driver, S3FileSystem)
    files.exists("00/00/0")
    config = driver.s3.meta.config
    assert (config.connect_timeout, config.read_timeout) == (5, 30)
    assert config.retries["total_max_attempts"] == 1
    assert driver.retries == 3


def test_a_store_with_an_authority_of_its_own_is_trusted_when_it_is_named(
    make_store: Callable[[str], ArtifactStore],
    s3_server: S3Server,
    certificates: Certificates,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without AWS_CA_BUNDLE nothing is sent, and the message names it."""
    with TlsProxy(certificates, s3_server.port) as tls:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"https://localhost:{tls.port}")
        with pytest.raises(ArtifactError, match="AWS_CA_BUNDLE"):
            make_store("here").put(file)
        S3FileSystem.clear_instance_cache()
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificates.authority))
        digest = make_store("here").put(file).digest
        assert make_store("elsewhere").fetch(digest).read_bytes() == file.read_bytes()
