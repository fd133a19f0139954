"""The content-addressed store: bytes named by their SHA-256, over fsspec, and their rows.

Local: written to a temporary name beside the target, fsynced, renamed, the directory fsynced; the row appears only
afterwards. Remote: uploaded under a temporary key and moved. Every read verifies the digest; bytes that are not what
their name says are set aside and never used.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from db.records import NewArtifact
from db.tables import Artifact
from db.types import db_now
from npuq.config import redact
from npuq.errors import ArtifactError, ConfigError

CHUNK_BYTES: Final = 1024 * 1024
Progress = Callable[[int], None]


def digest_of(path: Path) -> NewArtifact:
    """Return the SHA-256 and the size of a file, read in pieces."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return NewArtifact(digest=digest, size_bytes=path.stat().st_size)


def record(connection: Connection, artifacts: Iterable[NewArtifact]) -> None:
    """Insert the rows of durable artifacts; those that are known stay as they are."""
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    for artifact in artifacts:
        connection.execute(
            dialect.insert(Artifact)
            .values(digest=artifact.digest, size_bytes=artifact.size_bytes, created_at=db_now())
            .on_conflict_do_nothing()
        )


class ArtifactStore:
    """A store at an fsspec URL, with a local cache when it is remote."""

    def __init__(self, url: str, cache: Path, *, cache_bytes: int = 20 * 2**30) -> None:
        from fsspec.core import url_to_fs

        try:
            self._fs, self._root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"store_url {redact(url)!r}: {error}") from error
        self._url = redact(url)
        self._local = url.startswith("file://") or "://" not in url
        self._cache = Path(self._root) if self._local else cache
        self._cache_bytes = cache_bytes

    def _key(self, digest: str) -> str:
        return f"{digest[:2]}/{digest[2:4]}/{digest}"

    def exists(self, digest: str) -> bool:
        """Tell whether the store has an artifact."""
        if self._local:
            return (self._cache / self._key(digest)).is_file()
        return bool(self._reach(lambda: self._fs.exists(f"{self._root}/{self._key(digest)}")))

    def put(self, path: Path, progress: Progress | None = None) -> NewArtifact:
        """Store a file, streaming; storing equal bytes again is a no-op.

        Args:
            path: the file.
            progress: called with the number of bytes of each piece.

        Raises:
            ArtifactError: the store cannot be written (its text says why).
        """
        artifact = digest_of(path)
        if self.exists(artifact.digest):
            if progress is not None:
                progress(artifact.size_bytes)
            return artifact
        try:
            _copy_durably(path, self._cache / self._key(artifact.digest), artifact.digest, progress)
        except OSError as error:
            raise ArtifactError(f"cannot write to the artifact store {self._url}: {error}") from error
        if not self._local:
            self._upload(artifact.digest)
        return artifact

    def _upload(self, digest: str) -> None:
        temporary = f"{self._root}/incoming/{digest}.{secrets.token_hex(4)}"
        target = f"{self._root}/{self._key(digest)}"

        def upload() -> None:
            self._fs.put_file(str(self._cache / self._key(digest)), temporary)
            self._fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            self._fs.mv(temporary, target)

        self._reach(upload)

    def fetch(self, digest: str) -> Path:
        """Return a verified local file of an artifact; read-only, shared: link or copy it, never change it.

        Raises:
            ArtifactError: it is missing, or its bytes are not what its name says (then it is set aside).
        """
        local = self._cache / self._key(digest)
        if not local.is_file():
            if self._local:
                raise ArtifactError(f"artifact {digest[:12]} is not in the store {self._url}", retry=False)
            self._download(digest, local)
        if digest_of(local).digest != digest:
            self._set_aside(digest, local)
            raise ArtifactError(f"artifact {digest[:12]} in {self._url} is damaged and was set aside; make it again")
        return local

    def _download(self, digest: str, local: Path) -> None:
        temporary = local.with_name(f".{digest}.{secrets.token_hex(4)}")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._reach(lambda: self._fs.get_file(f"{self._root}/{self._key(digest)}", str(temporary)))
            if digest_of(temporary).digest != digest:
                self._reach(lambda: self._set_aside_remotely(digest))
                raise ArtifactError(
                    f"artifact {digest[:12]} in {self._url} is damaged and was set aside; make it again"
                )
            temporary.chmod(0o444)
            temporary.replace(local)
            self._make_room()
        finally:
            temporary.unlink(missing_ok=True)

    def _make_room(self) -> None:
        """Drop the copies that were fetched first until the rest is within the bound; jobs keep theirs by links."""
        copies = [(path.stat().st_mtime, path) for path in self._cache.glob("??/??/*") if path.is_file()]
        total = sum(path.stat().st_size for _, path in copies)
        for _, path in sorted(copies)[:-1]:  # the newest is the one that was just asked for
            if total <= self._cache_bytes:
                return
            total -= path.stat().st_size
            path.unlink(missing_ok=True)

    def _set_aside(self, digest: str, local: Path) -> None:
        quarantine = self._cache / "damaged"
        quarantine.mkdir(parents=True, exist_ok=True)
        local.replace(quarantine / f"{digest}.{secrets.token_hex(4)}")

    def _set_aside_remotely(self, digest: str) -> None:
        self._fs.makedirs(f"{self._root}/damaged", exist_ok=True)
        self._fs.mv(f"{self._root}/{self._key(digest)}", f"{self._root}/damaged/{digest}.{secrets.token_hex(4)}")

    def _reach(self, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever the call returns
        try:
            return call()
        except FileNotFoundError as error:
            raise ArtifactError(f"the artifact store {self._url} lacks {error}", retry=False) from error
        except OSError as error:
            raise ArtifactError(f"cannot reach the artifact store {self._url}: {error}") from error


def _copy_durably(source: Path, target: Path, digest: str, progress: Progress | None) -> None:
    """Copy so that the final name never stands for anything but the whole, durable content."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{digest}.{secrets.token_hex(4)}")
    hasher = hashlib.sha256()
    try:
        with source.open("rb") as reader, temporary.open("xb") as writer:
            while piece := reader.read(CHUNK_BYTES):
                hasher.update(piece)
                writer.write(piece)
                if progress is not None:
                    progress(len(piece))
            writer.flush()
            os.fsync(writer.fileno())
        if hasher.hexdigest() != digest:
            raise OSError(f"{source} changed while it was read")
        temporary.chmod(0o444)
        temporary.replace(target)
        _fsync_directory(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def materialise(store: ArtifactStore, digest: str, target: Path) -> Path:
    """Put a verified artifact at `target`, by hard link where the file system allows, else by copy."""
    source = store.fetch(digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        target.unlink()
        return materialise(store, digest, target)
    except OSError:
        shutil.copyfile(source, target)
    return target
