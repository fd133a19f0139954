"""The files of a dataset in the artifact store: put there, and looked for there, several at a time.

What the store has already is not sent again, so whatever ended an upload, the next one goes on where it was.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from cli.datasets.bytes_bar import BytesProgress
from npuq.errors import DatasetError

if TYPE_CHECKING:
    from db.artifacts import ArtifactStore
    from tasks.dataset_files import Difference
    from tasks.dataset_manifest import FileEntry, Manifest

#: A store answers after milliseconds, most of which is waiting.
_THREADS: Final = 8
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What an upload did. Files of equal content are one file of the store.

    Attributes:
        files: of the dataset, in the store.
        sent: how many of them it did not have before.
        sent_bytes: of those.
    """

    files: int
    sent: int
    sent_bytes: int


def keep_files(store: "ArtifactStore", root: Path, manifest: "Manifest", progress: BytesProgress | None) -> Kept:
    """Store every file of a manifest.

    Args:
        store: the fleet's.
        root: the dataset's folder.
        manifest: of the folder as it was hashed just now.
        progress: told how many bytes are in the store, of how many.

    Raises:
        DatasetError: a file is gone, or is not what it was when it was hashed.
        ArtifactError: the store cannot be written; it keeps what it has.
    """
    from db.local_files import SourceError
    from db.records import NewArtifact

    def keep(file: "FileEntry") -> bool:
        known = NewArtifact(digest=file.sha256, size_bytes=file.size_bytes)
        try:
            return store.put_known(root / file.path, known)
        except SourceError as error:
            raise DatasetError(
                f"{error}, after the dataset was hashed. Nothing was registered; let the folder rest and run it again."
            ) from error

    files = {file.sha256: file for file in manifest.files}
    total_bytes = sum(file.size_bytes for file in files.values())
    done_bytes = 0
    sent: list[FileEntry] = []
    for file, was_sent in _each(keep, files.values()):
        done_bytes += file.size_bytes
        if was_sent:
            sent.append(file)
        if progress is not None:
            progress(done_bytes, total_bytes)
    return Kept(files=len(files), sent=len(sent), sent_bytes=sum(file.size_bytes for file in sent))


def absent_files(store: "ArtifactStore", manifest: "Manifest") -> "list[Difference]":
    """Return the files of a manifest that the store does not have, by path; raises ArtifactError."""
    from tasks.dataset_files import Change, Difference

    there = _each(lambda file: store.exists(file.sha256), manifest.files)
    return sorted(Difference(path=file.path, change=Change.MISSING) for file, found in there if not found)


def _each(work: Callable[["FileEntry"], T], files: "Iterable[FileEntry]") -> "Iterator[tuple[FileEntry, T]]":
    """Yield files with what came of the work on them, as it is done; the first error, and Ctrl-C, end all of it."""
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="store")
    try:
        under_way = {pool.submit(work, file): file for file in files}
        for future in as_completed(under_way):
            yield under_way[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)
