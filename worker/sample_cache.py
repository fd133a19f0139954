"""Preprocessed samples kept on this host, shared by datasets, batch sizes, precisions, runs and processes.

A sample is found by the content of its image and by what was done to it, never by a dataset or a place: two datasets
with the same image share it, and other bytes can never stand in for it. One file per sample, replaced as a whole, so
that neither a crash nor two writers leave half of one; what does not read back as it was written is as if it were not
there. Losing all of it costs time only; nothing here ever fails a job.
"""

import contextlib
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tasks.dataset_files import FileState
from tasks.protocols import Array

_MAGIC: Final = b"NPUQSMP2"
_PREFIX: Final = struct.Struct("<8sI")
_MAX_HEADER_BYTES: Final = 16 * 2**20
_SUFFIX: Final = ".sample"
_SHRINK_TO: Final = 0.9
_SHARE_WRITTEN_BETWEEN_SCANS: Final = 64


def preparation_key(
    *, recipe: str, preprocessing_version: int, pass_name: str, recipe_options: Mapping[str, str] | None = None
) -> str:
    """Return what stands for everything that is done to an image before the chip gets it."""
    chosen = [part for option in sorted((recipe_options or {}).items()) for part in option]
    parts = (recipe, str(preprocessing_version), pass_name, *chosen)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class CachedSample:
    """What is kept beside a sample's array.

    Attributes:
        meta: what its postprocessing needs.
        source: state of the image's file when its content was last checked.
    """

    meta: Mapping[str, Any]
    source: FileState


class SampleCache:
    """The samples of one preparation.

    Args:
        root: folder of all preparations.
        limit_bytes: bound of all of them together; the least recently used samples go first. It is looked at now and
            then, so each writing process may exceed it by a few percent. 0 switches the cache off.
        preparation: see `preparation_key`.
        shape: of every sample.
    """

    def __init__(self, root: Path, limit_bytes: int, preparation: str, shape: tuple[int, ...]) -> None:
        self._root = root
        self._folder = root / preparation
        self._limit_bytes = limit_bytes
        self._shape = shape
        self._row_bytes = 4 * int(np.prod(shape, dtype=np.int64))
        self._written_bytes = limit_bytes  # the first write looks at what others left

    def read(self, content: str, into: Array) -> CachedSample | None:
        """Copy a sample to where it is wanted; None when it is not there and intact, and `into` is undefined then.

        Args:
            content: SHA-256 of the image.
            into: writable float32 array of the samples' shape.
        """
        if not self._limit_bytes:
            return None
        try:
            with self._path(content).open("rb", buffering=0) as stream:
                os.utime(stream.fileno())  # so that the least recently used goes first
                return self._read(stream.fileno(), into)
        except (OSError, ValueError, KeyError, TypeError, struct.error):
            return None

    def write(self, content: str, array: Array, sample: CachedSample) -> None:
        """Keep a sample, in place of what was there; gives up silently when the disk does."""
        if not self._limit_bytes:
            return
        path = self._path(content)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                data = np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint8).data
                stream.write(self._encode_header(sample, zlib.crc32(data)))
                stream.write(data)
                self._written_bytes += stream.tell()
            temporary.replace(path)
            if self._written_bytes * _SHARE_WRITTEN_BETWEEN_SCANS > self._limit_bytes:
                self._written_bytes = 0
                shrink(self._root, self._limit_bytes)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _path(self, content: str) -> Path:
        return self._folder / f"{content}{_SUFFIX}"

    def _read(self, descriptor: int, into: Array) -> CachedSample | None:
        """Read a file into an array; raises ValueError for one that is not as it was written."""
        magic, size = _PREFIX.unpack(os.pread(descriptor, _PREFIX.size, 0))
        if magic != _MAGIC or size > _MAX_HEADER_BYTES:
            raise ValueError("not a sample")
        header = json.loads(os.pread(descriptor, size, _PREFIX.size))
        if tuple(header["shape"]) != self._shape:
            raise ValueError("a sample of another shape")
        row = into.reshape(-1).view(np.uint8).data
        read_bytes = os.preadv(descriptor, [row], _PREFIX.size + size)
        if read_bytes != self._row_bytes or zlib.crc32(row) != header["crc"]:
            raise ValueError("a damaged sample")
        return CachedSample(meta=header["meta"], source=tuple(header["source"]))

    def _encode_header(self, sample: CachedSample, crc: int) -> bytes:
        values = {"shape": self._shape, "crc": crc, "meta": dict(sample.meta), "source": sample.source}
        header = json.dumps(values).encode()
        return _PREFIX.pack(_MAGIC, len(header)) + header


def shrink(root: Path, limit_bytes: int) -> None:
    """Remove the least recently used samples until all are within the limit, with some room to spare."""
    found = list(_files(root))
    total = sum(size for _, size, _ in found)
    if total <= limit_bytes:
        return
    for _, size, path in sorted(found):
        if total <= limit_bytes * _SHRINK_TO:
            return
        Path(path).unlink(missing_ok=True)
        total -= size


def _files(root: Path) -> Iterator[tuple[int, int, str]]:
    """Yield last use, size and path of every file, with what writers left that died."""
    for folder in filter(Path.is_dir, root.iterdir()):
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue  # another process was faster
                yield status.st_mtime_ns, status.st_size, entry.path
