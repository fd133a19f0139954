"""Preprocessed samples kept on this host, in chunks, shared by batch sizes, precisions, runs and processes.

A chunk is one file, replaced as a whole, so that neither a crash nor two writers leave half of one. Every sample
carries a checksum: what does not read back as it was written is as if it were not there. Losing all of it costs time
only; nothing here ever fails a job.
"""

import contextlib
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tasks.protocols import Array

_MAGIC: Final = b"NPUQSMP1"
_PREFIX: Final = struct.Struct("<8sI")
_MAX_HEADER_BYTES: Final = 16 * 2**20
_SUFFIX: Final = ".samples"
_CHUNK_BYTES: Final = 8 * 2**20
_MAX_CHUNK_SAMPLES: Final = 32
_SHRINK_TO: Final = 0.9
_SHARE_WRITTEN_BETWEEN_SCANS: Final = 64


def chunk_samples(sample_bytes: int) -> int:
    """Return how many samples make a chunk: about 8 MiB, from 1 to 32."""
    return max(1, min(_MAX_CHUNK_SAMPLES, _CHUNK_BYTES // sample_bytes))


def cache_key(*, recipe: str, preprocessing_version: int, dataset_digest: str, pass_name: str) -> str:
    """Return the name under which the samples of one pass over one dataset are kept."""
    parts = (recipe, str(preprocessing_version), dataset_digest, pass_name)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True, eq=False)
class CachedSample:
    """A sample as it is kept: float32 (C, H, W), and what its postprocessing needs."""

    image_id: str
    array: Array
    meta: Mapping[str, Any]


class SampleCache:
    """The samples of one key.

    Args:
        root: folder of all keys.
        limit_bytes: bound of all keys together; the least recently used chunks go first. It is looked at now and then,
            so each writing process may exceed it by a few percent. 0 switches the cache off.
        key: see `cache_key`.
        shape: of every sample.
    """

    def __init__(self, root: Path, limit_bytes: int, key: str, shape: tuple[int, ...]) -> None:
        self._root = root
        self._folder = root / key
        self._limit_bytes = limit_bytes
        self._shape = shape
        self._row_bytes = 4 * int(np.prod(shape, dtype=np.int64))
        self._written_bytes = limit_bytes  # the first write looks at what others left

    def read(self, chunk: int, wanted: Mapping[str, Array]) -> dict[str, Mapping[str, Any]]:
        """Copy samples of a chunk to where they are wanted.

        Args:
            chunk: number of the chunk.
            wanted: image id -> writable float32 array of the samples' shape.

        Returns:
            The metas of those that are there and intact, by image id; the arrays of the others are undefined.
        """
        if not self._limit_bytes:
            return {}
        path = self._path(chunk)
        try:
            with path.open("rb", buffering=0) as stream:
                os.utime(stream.fileno())  # so that the least recently used goes first
                return self._read_rows(stream.fileno(), wanted)
        except (OSError, ValueError, KeyError, TypeError, struct.error):
            return {}

    def write(self, chunk: int, samples: list[CachedSample]) -> None:
        """Add samples to a chunk, in place of those of the same ids; gives up silently when the disk does."""
        if not self._limit_bytes:
            return
        kept = {sample.image_id: sample for sample in [*self._all(chunk), *samples]}
        temporary = self._path(chunk).with_suffix(f".{os.getpid()}.tmp")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                stream.write(self._encode_header(list(kept.values())))
                for sample in kept.values():
                    stream.write(np.ascontiguousarray(sample.array, np.float32).data)
                self._written_bytes += stream.tell()
            temporary.replace(self._path(chunk))
            if self._written_bytes * _SHARE_WRITTEN_BETWEEN_SCANS > self._limit_bytes:
                self._written_bytes = 0
                shrink(self._root, self._limit_bytes)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _path(self, chunk: int) -> Path:
        return self._folder / f"{chunk:08d}{_SUFFIX}"

    def _all(self, chunk: int) -> list[CachedSample]:
        """Return what a chunk holds now."""
        try:
            with self._path(chunk).open("rb", buffering=0) as stream:
                ids = [entry["id"] for entry in self._header(stream.fileno())[0]]
        except (OSError, ValueError, KeyError, TypeError, struct.error):
            return []
        arrays: dict[str, Array] = {image_id: np.empty(self._shape, np.float32) for image_id in ids}
        metas = self.read(chunk, arrays)
        return [CachedSample(image_id=image_id, array=arrays[image_id], meta=meta) for image_id, meta in metas.items()]

    def _header(self, descriptor: int) -> tuple[list[dict[str, Any]], int]:
        """Return the entries and where the rows begin; raises ValueError for a file that is not as it was written."""
        magic, size = _PREFIX.unpack(os.pread(descriptor, _PREFIX.size, 0))
        if magic != _MAGIC or size > _MAX_HEADER_BYTES:
            raise ValueError("not a chunk of samples")
        header = json.loads(os.pread(descriptor, size, _PREFIX.size))
        start = _PREFIX.size + size
        entries: list[dict[str, Any]] = header["samples"]
        if tuple(header["shape"]) != self._shape:
            raise ValueError("samples of another shape")
        if os.fstat(descriptor).st_size != start + len(entries) * self._row_bytes:
            raise ValueError("a chunk of the wrong size")
        return entries, start

    def _read_rows(self, descriptor: int, wanted: Mapping[str, Array]) -> dict[str, Mapping[str, Any]]:
        entries, start = self._header(descriptor)
        found = {}
        for row, entry in enumerate(entries):
            into = wanted.get(entry["id"])
            if into is None:
                continue
            view = into.reshape(-1).view(np.uint8).data
            size = os.preadv(descriptor, [view], start + row * self._row_bytes)
            if size == self._row_bytes and zlib.crc32(view) == entry["crc"]:
                found[entry["id"]] = entry["meta"]
        return found

    def _encode_header(self, samples: list[CachedSample]) -> bytes:
        entries = [
            {
                "id": sample.image_id,
                "crc": zlib.crc32(np.ascontiguousarray(sample.array, np.float32).data),
                "meta": dict(sample.meta),
            }
            for sample in samples
        ]
        header = json.dumps({"shape": self._shape, "samples": entries}).encode()
        return _PREFIX.pack(_MAGIC, len(header)) + header


def shrink(root: Path, limit_bytes: int) -> None:
    """Remove the least recently used chunks until all are within the limit, with some room to spare."""
    found = []
    for path in root.glob("*/*"):  # with what writers left that died
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # another process was faster
        found.append((status.st_mtime_ns, status.st_size, path))
    total = sum(size for _, size, _ in found)
    if total <= limit_bytes:
        return
    for _, size, path in sorted(found):
        if total <= limit_bytes * _SHRINK_TO:
            return
        path.unlink(missing_ok=True)
        total -= size
