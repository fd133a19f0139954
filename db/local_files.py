"""Artifacts as files of this host: copied so that a name stands for the whole content, placed by links, bounded.

Knows neither stores nor databases, and raises OSError: callers say whose trouble that is (`no_copy`: this host's).
"""

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from npuq.errors import ArtifactError, Blame

CHUNK_BYTES: Final = 1024 * 1024
Progress = Callable[[int], None]

_SHARE_GROWN_BETWEEN_LOOKS: Final = 64
_ABANDONED_SECONDS: Final = 3600.0
"""A temporary file this old belongs to nobody who lives."""


class SourceError(OSError):
    """The file that was to be copied cannot be read, or is no longer what it was: no fault of where it was to go."""


def no_copy(error: OSError) -> ArtifactError:
    """Return the error of a host that cannot hold a copy of an artifact."""
    return ArtifactError(
        f"this host cannot hold a copy of an artifact: {error}; make room below NPUQ_HOME, or lower "
        "artifact_cache_bytes",
        code="host_io",
        blame=Blame.HOST,
    )


def temporary_beside(path: Path) -> Path:
    """Return a hidden name in the same folder that nobody else uses."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def copy_durably(source: Path, target: Path, digest: str, progress: Progress | None = None) -> None:
    """Copy so that the target never stands for anything but the whole, durable content of a SHA-256.

    Raises:
        SourceError: the source cannot be read, or has another digest.
        OSError: the target cannot be written; nothing is left of it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(target)
    try:
        with temporary.open("xb") as writer:
            _copy_checked(source, writer.write, digest, progress)
            writer.flush()
            os.fsync(writer.fileno())
        temporary.chmod(0o444)
        temporary.replace(target)
        _fsync_directory(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def copy_for_upload(source: Path, folder: Path, digest: str) -> Path:
    """Return a private copy of what has this SHA-256, which nobody changes while it is sent; raises as `copy_durably`.

    The caller removes it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(folder / digest)
    try:
        with temporary.open("xb") as writer:
            _copy_checked(source, writer.write, digest)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def place(source: Path, target: Path) -> Path:
    """Put a file at `target`, in place of what is there, by hard link where the file system allows, else by copy.

    Raises:
        FileNotFoundError: the source is gone.
        OSError: the target cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(target)
    try:
        try:
            os.link(source, temporary)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)  # a link that replaces a link to the same file does nothing
    return target


class BoundedCopies:
    """Keeps the copies in a folder within a bound: those that came first go first; jobs keep theirs by links.

    The folder is looked at now and then, so each process may exceed the bound by a few percent.

    Args:
        folder: with the copies two folders deep.
        limit_bytes: the bound.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._grown_bytes = limit_bytes  # the first copy looks at what others left

    def added(self, size_bytes: int) -> None:
        """Note a new copy; makes room if that is due."""
        self._grown_bytes += size_bytes
        if self._grown_bytes * _SHARE_GROWN_BETWEEN_LOOKS >= self._limit_bytes:
            self._grown_bytes = 0
            self._make_room()

    def _make_room(self) -> None:
        copies = sorted(self._copies())
        total = sum(size for _, size, _ in copies)
        for _, size, path in copies[:-1]:  # the newest is the one that was just asked for
            if total <= self._limit_bytes:
                return
            total -= size
            path.unlink(missing_ok=True)

    def _copies(self) -> Iterator[tuple[float, int, Path]]:
        """Yield time, size and path of every copy; what others are writing now is left alone."""
        abandoned_before = time.time() - _ABANDONED_SECONDS
        for path in self._folder.glob("??/??/*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # another process was faster
            if not path.name.startswith(".") or status.st_mtime < abandoned_before:
                yield status.st_mtime, status.st_size, path


def _copy_checked(
    source: Path, write: Callable[[bytes], object], digest: str, progress: Progress | None = None
) -> None:
    hasher = hashlib.sha256()
    for piece in _pieces(source):
        hasher.update(piece)
        write(piece)
        if progress is not None:
            progress(len(piece))
    if hasher.hexdigest() != digest:
        raise SourceError(f"{source} changed while it was read")


def _pieces(source: Path) -> Iterator[bytes]:
    try:
        with source.open("rb") as reader:
            while piece := reader.read(CHUNK_BYTES):
                yield piece
    except OSError as error:
        raise SourceError(f"{source} cannot be read: {error.strerror or error}") from error


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
