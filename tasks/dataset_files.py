"""Holds the files of a dataset on this host against its manifest: names and sizes cheaply, contents when they are read.

An image is hashed once, by whoever is about to decode it. Every mismatch is this host's trouble, not the job's: another
host may have the registered files. Of a dataset that is kept in the store, what is missing or damaged is asked for.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from npuq.errors import Blame, DatasetChangedError, DatasetError
from tasks.dataset_manifest import FileEntry, Manifest
from tasks.dataset_requests import request_file

if TYPE_CHECKING:
    from tasks.protocols import Recipe, Sample
    from tasks.steps import DatasetRef

#: Enough to keep a network file system busy; hashing itself leaves the interpreter to the others.
_HASHING_THREADS: Final = 8
_SHOWN: Final = 3
T = TypeVar("T")

FileState = tuple[int, ...]
"""Inode, size and times of a file: they do not all stay the same when its content changes.

Without the time of the last change of the inode where files are links to copies that others link too.
"""

HashProgress = Callable[[int, int], None]
"""Called with the bytes hashed so far and the bytes of all files."""


class Change(StrEnum):
    """How a file differs from what was registered."""

    MISSING = "missing"
    EXTRA = "extra"
    SIZE = "of another size"
    CONTENT = "of other content"


@dataclass(frozen=True, kw_only=True, order=True)
class Difference:
    """A file that is not as it was registered; `path` is relative to the dataset's folder."""

    path: str
    change: Change


def find_moved(manifest: Manifest, root: Path, sizes: Mapping[str, int]) -> list[Difference]:
    """Compare names and sizes; opens no file.

    Args:
        manifest: what was registered.
        root: the dataset's folder.
        sizes: relative path -> bytes of the images that are there now.

    Raises:
        OSError: an annotation file cannot be looked at.
    """
    registered = {sample.path: sample.size_bytes for sample in manifest.samples}
    there = {path: size for path, size in sizes.items() if path in registered}
    extra = [Difference(path=path, change=Change.EXTRA) for path in sizes.keys() - registered.keys()]
    for file in manifest.annotations:
        registered[file.path] = file.size_bytes
        try:
            there[file.path] = (root / file.path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            continue
    missing = [Difference(path=path, change=Change.MISSING) for path in registered.keys() - there.keys()]
    resized = [Difference(path=path, change=Change.SIZE) for path, size in there.items() if size != registered[path]]
    return sorted([*missing, *extra, *resized])


def changed_error(ref: "DatasetRef", differences: Sequence[Difference]) -> DatasetChangedError:
    """Return the error that names the first files of each kind of difference."""
    parts = []
    for change in Change:
        paths = [difference.path for difference in differences if difference.change is change]
        if paths:
            more = " ..." if len(paths) > _SHOWN else ""
            parts.append(f"{len(paths)} {change} ({', '.join(paths[:_SHOWN])}{more})")
    return _changed(ref, f"The dataset {ref.name!r} in {ref.root} on host {ref.host}", "; ".join(parts))


def check_content(ref: "DatasetRef", file: FileEntry) -> FileState:
    """Hash a file and compare it with what was registered; returns the state in which it was hashed.

    Raises:
        DatasetChangedError: it is gone, or other bytes.
        DatasetError: the host cannot read it.
        NpuqError: it is kept in the store, and cannot be had from there.
    """
    return _as_registered(ref, file, _hashed)


def _as_registered(ref: "DatasetRef", file: FileEntry, read: Callable[["DatasetRef", FileEntry], T]) -> T:
    """Read a file; one that is missing or damaged and kept in the store is brought from there first."""
    try:
        return read(ref, file)
    except DatasetChangedError:
        if ref.source is None:
            raise
    request_file(ref.source, file.path)
    return read(ref, file)


def _hashed(ref: "DatasetRef", file: FileEntry) -> FileState:
    path = ref.root / file.path
    try:
        with path.open("rb", buffering=0) as stream:
            state = _state(ref, os.fstat(stream.fileno()))
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(ref, file, error) from error
    if digest != file.sha256:
        raise _file_changed(ref, file, f"its SHA-256 is {digest[:12]}, registered was {file.sha256[:12]}")
    return state


def file_state(ref: "DatasetRef", file: FileEntry) -> FileState:
    """Return the state of a file without reading it; raises as `check_content`."""
    try:
        return _state(ref, (ref.root / file.path).stat())
    except OSError as error:
        raise _unreadable(ref, file, error) from error


def read_registered(ref: "DatasetRef", file: FileEntry) -> bytes:
    """Return the content of a file, which is what was registered; raises as `check_content`."""
    return _as_registered(ref, file, _read)


def _read(ref: "DatasetRef", file: FileEntry) -> bytes:
    try:
        content = (ref.root / file.path).read_bytes()
    except OSError as error:
        raise _unreadable(ref, file, error) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise _file_changed(ref, file, f"its SHA-256 is {digest[:12]}, registered was {file.sha256[:12]}")
    return content


def preprocess_registered(
    recipe: "Recipe", ref: "DatasetRef", file: FileEntry, pass_name: str
) -> tuple["Sample", FileState]:
    """Preprocess an image whose bytes are those that were registered; see `decode_registered`."""
    return decode_registered(ref, file, lambda path: recipe.preprocess(path, pass_name))


def decode_registered(ref: "DatasetRef", file: FileEntry, decode: Callable[[Path], T]) -> tuple[T, FileState]:
    """Decode an image whose bytes are those that were registered, before and after it was decoded.

    Raises:
        DatasetChangedError: it is gone, other bytes, or was changed meanwhile.
        DatasetError: the host cannot read it, or it is damaged as it was registered.
        NpuqError: it is kept in the store, and cannot be had from there.
    """
    state = check_content(ref, file)
    decoded = decode(ref.root / file.path)
    if file_state(ref, file) != state:
        raise _file_changed(ref, file, "it was changed while it was read")
    return decoded, state


def hash_files(
    root: Path, paths: Iterable[str], *, total_bytes: int = 0, progress: HashProgress | None = None
) -> dict[str, FileEntry]:
    """Hash files, several at a time; relative path -> entry. Raises DatasetError naming a file that cannot be read."""
    found: dict[str, FileEntry] = {}
    done_bytes = 0
    pool = ThreadPoolExecutor(_HASHING_THREADS, thread_name_prefix="hash")
    try:
        for future in as_completed([pool.submit(_hash_file, root, path) for path in paths]):
            entry = future.result()
            found[entry.path] = entry
            done_bytes += entry.size_bytes
            if progress is not None:
                progress(done_bytes, total_bytes)
    finally:
        pool.shutdown(cancel_futures=True)  # the first file that cannot be read, and Ctrl-C, end all of it
    return found


def _hash_file(root: Path, path: str) -> FileEntry:
    try:
        with (root / path).open("rb", buffering=0) as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return FileEntry(path=path, size_bytes=stream.tell(), sha256=digest)
    except OSError as error:
        raise DatasetError(
            f"The file {root / path} cannot be read: {error.strerror or error}. Check the disk and the permissions.",
            blame=Blame.HOST,
            retry=True,
        ) from error


def _state(ref: "DatasetRef", status: os.stat_result) -> FileState:
    content = (status.st_ino, status.st_size, status.st_mtime_ns)
    return content if ref.source is not None else (*content, status.st_ctime_ns)


def _unreadable(ref: "DatasetRef", file: FileEntry, error: OSError) -> DatasetError | DatasetChangedError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return _file_changed(ref, file, "it is gone")
    return DatasetError(
        f"{ref.root / file.path} of the dataset {ref.name!r} cannot be read on host {ref.host}: "
        f"{error.strerror or error}. Check the host's disk and permissions.",
        blame=Blame.HOST,
        retry=True,
    )


def _file_changed(ref: "DatasetRef", file: FileEntry, how: str) -> DatasetChangedError:
    return _changed(ref, f"{ref.root / file.path} of the dataset {ref.name!r} on host {ref.host}", how)


def _changed(ref: "DatasetRef", what: str, how: str) -> DatasetChangedError:
    return DatasetChangedError(
        f"{what} is not what was registered: {how}. Restore it, or register the folder as it is now under a new name: "
        f"npuq datasets add NEW_NAME {ref.root} --format {ref.format}"
    )
