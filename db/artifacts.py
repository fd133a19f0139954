"""The content-addressed store: bytes named by their SHA-256, over fsspec, and their rows.

Local: written to a temporary name beside the target, fsynced, renamed, the directory fsynced; the row appears only
afterwards. Remote: uploaded so that the key appears with the whole content (see `db.remote_files`). Every read verifies
the digest; bytes that are not what their name says are set aside and never used.
"""

import hashlib
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from db.local_files import (
    BoundedCopies,
    Progress,
    SourceError,
    copy_durably,
    copy_for_upload,
    no_copy,
    place,
    temporary_beside,
)
from db.records import NewArtifact
from db.tables import Artifact
from db.types import db_now
from npuq.config import redact
from npuq.errors import ArtifactError

if TYPE_CHECKING:
    from db.remote_files import RemoteFiles

_ROWS_PER_STATEMENT: Final = 200
_TRIES: Final = 3


def digest_of(path: Path) -> NewArtifact:
    """Return the SHA-256 and the size of a file, read in pieces."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return NewArtifact(digest=digest, size_bytes=path.stat().st_size)


def record(connection: Connection, artifacts: Iterable[NewArtifact]) -> None:
    """Insert the rows of durable artifacts; those that are known stay as they are."""
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    sizes = {artifact.digest: artifact.size_bytes for artifact in artifacts}
    digests = sorted(sizes)
    for start in range(0, len(digests), _ROWS_PER_STATEMENT):
        rows = [
            {"digest": digest, "size_bytes": sizes[digest], "created_at": db_now()}
            for digest in digests[start : start + _ROWS_PER_STATEMENT]
        ]
        connection.execute(dialect.insert(Artifact).values(rows).on_conflict_do_nothing())


class ArtifactStore:
    """A store at an fsspec URL, with a local cache when it is remote. Safe for many threads and processes."""

    def __init__(self, url: str, cache: Path, *, cache_bytes: int = 20 * 2**30) -> None:
        self._url = redact(url)
        self._remote = None if "://" not in url or url.startswith("file://") else _remote_files(url)
        self._cache = cache if self._remote is not None else _folder(url)
        self._copies = BoundedCopies(self._cache, cache_bytes)

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
            copy_durably(path, local, artifact.digest, copied)
        except OSError as error:
            raise ArtifactError(f"cannot write to the artifact store {self._url}: {error}") from error
        if self._remote is not None:
            self._remote.upload(local, self._key(artifact.digest), progress)
            self._copies.added(artifact.size_bytes)
        return artifact

    def put_known(self, path: Path, artifact: NewArtifact) -> bool:
        """Store one of many files whose digests are known; no copy of it stays in the cache.

        Returns:
            Whether it was sent: False when the store had it.

        Raises:
            SourceError: the file cannot be read, or is not what it was.
            ArtifactError: the store cannot be written.
        """
        if self.exists(artifact.digest):
            return False
        key = self._key(artifact.digest)
        try:
            if self._remote is None:
                copy_durably(path, self._cache / key, artifact.digest)
                return True
            copy = copy_for_upload(path, (self._cache / key).parent, artifact.digest)
        except SourceError:
            raise
        except OSError as error:
            raise ArtifactError(f"cannot write to the artifact store {self._url}: {error}") from error
        try:
            self._remote.upload(copy, key)
        finally:
            copy.unlink(missing_ok=True)
        return True

    def fetch(self, digest: str) -> Path:
        """Return a verified local file of an artifact; read-only, shared: link or copy it, never change it.

        Raises:
            ArtifactError: it is missing, or its bytes are not what its name says (then it is set aside).
            FileNotFoundError: another process made room in the cache meanwhile; see `materialise`.
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
        temporary = temporary_beside(local)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = self._brought(remote, digest, temporary)
            temporary.chmod(0o444)
            temporary.replace(local)
            self._copies.added(found.size_bytes)
        finally:
            temporary.unlink(missing_ok=True)

    def _brought(self, remote: "RemoteFiles", digest: str, temporary: Path) -> NewArtifact:
        """Download and verify; the store loses a name only when the same wrong bytes came twice.

        What was cut or garbled on the way says nothing of what lies in the store.
        """
        seen: set[str] = set()
        for _ in range(_TRIES):
            remote.download(self._key(digest), temporary)
            found = digest_of(temporary)
            if found.digest == digest:
                return found
            if found.digest in seen:
                remote.move(self._key(digest), f"damaged/{digest}.{secrets.token_hex(4)}")
                raise ArtifactError(
                    f"artifact {digest[:12]} in {self._url} is damaged and was set aside; make it again"
                )
            seen.add(found.digest)
        raise ArtifactError(
            f"artifact {digest[:12]} came from {self._url} with other bytes each of {_TRIES} times; check the network "
            "and the store's disks"
        )

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


def materialise(store: ArtifactStore, digest: str, target: Path, *, tries: int = _TRIES) -> Path:
    """Put a verified artifact at `target`, by hard link where the file system allows, else by copy.

    Args:
        store: where it is.
        digest: its SHA-256.
        target: where it shall be.
        tries: how often the cache may lose it to another process that makes room.

    Raises:
        ArtifactError: the store does not have it, or cannot be reached; or this host, which is then to blame, cannot
            hold a copy.
    """
    try:
        return place(store.fetch(digest), target)
    except FileNotFoundError as error:
        if tries > 1:
            return materialise(store, digest, target, tries=tries - 1)
        raise no_copy(error) from error
    except OSError as error:
        raise no_copy(error) from error
