"""The content-addressed store: bytes named by their SHA-256, over fsspec, and their rows.

Local: written to a temporary name beside the target, fsynced, renamed, the directory fsynced; the row appears only
afterwards. Remote: uploaded so that the key appears with the whole content (see `db.remote_files`). Every read verifies
the digest; bytes that are not what their name says are set aside and never used.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from db.records import NewArtifact
from db.tables import Artifact
from db.types import db_now
from npuq.config import redact
from npuq.errors import ArtifactError

if TYPE_CHECKING:
    from db.remote_files import RemoteFiles

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
        self._url = redact(url)
        self._remote = None if "://" not in url or url.startswith("file://") else _remote_files(url)
        self._cache = cache if self._remote is not None else _folder(url)
        self._cache_bytes = cache_bytes

    def _key(self, digest: str) -> str:
        return f"{digest[:2]}/{digest[2:4]}/{digest}"

    def exists(self, digest: str) -> bool:
        """Tell whether the store has an artifact."""
        if self._remote is None:
            return (self._cache / self._key(digest)).is_file()
        return self._remote.exists(self._key(digest))

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
        copied = progress if self._remote is None else None  # what takes long is the upload
        local = self._cache / self._key(artifact.digest)
        try:
            _copy_durably(path, local, artifact.digest, copied)
        except OSError as error:
            raise ArtifactError(f"cannot write to the artifact store {self._url}: {error}") from error
        if self._remote is not None:
            self._remote.upload(local, self._key(artifact.digest), progress)
            self._make_room()
        return artifact

    def fetch(self, digest: str) -> Path:
        """Return a verified local file of an artifact; read-only, shared: link or copy it, never change it.

        Raises:
            ArtifactError: it is missing, or its bytes are not what its name says (then it is set aside).
        """
        local = self._cache / self._key(digest)
        if not local.is_file():
            if self._remote is None:
                raise ArtifactError(f"artifact {digest[:12]} is not in the store {self._url}", retry=False)
            self._download(self._remote, digest, local)
        if digest_of(local).digest != digest:
            self._set_aside(digest, local)
            raise ArtifactError(f"artifact {digest[:12]} in {self._url} is damaged and was set aside; make it again")
        return local

    def _download(self, remote: "RemoteFiles", digest: str, local: Path) -> None:
        temporary = local.with_name(f".{digest}.{secrets.token_hex(4)}")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            remote.download(self._key(digest), temporary)
            if digest_of(temporary).digest != digest:
                remote.move(self._key(digest), f"damaged/{digest}.{secrets.token_hex(4)}")
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


def _remote_files(url: str) -> "RemoteFiles":
    from db.remote_files import RemoteFiles

    return RemoteFiles(url)


def _folder(url: str) -> Path:
    from fsspec.core import url_to_fs

    return Path(url_to_fs(url)[1])


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
