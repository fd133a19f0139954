"""The log of one attempt: its beginning and its end, whatever a tool prints in between.

A tool that prints a gigabyte must neither fill the disk nor hide how it began and how it ended. Nothing here knows
where a log is stored or who reads it.
"""

import threading
from collections import deque
from pathlib import Path
from typing import Protocol, Self

MIN_LIMIT_BYTES = 1024


class LogSink(Protocol):
    """Where the output of a child process goes; called from a thread of its own."""

    def write(self, text: str) -> None:
        """Take whole lines, each with its newline; after an OSError it is not called again for this attempt."""


class _Newest:
    """The last `limit_bytes` of a stream of text, and how much went before."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._parts: deque[bytes] = deque()
        self._size_bytes = 0
        self._dropped_bytes = 0

    def add(self, data: bytes) -> None:
        self._parts.append(data)
        self._size_bytes += len(data)
        while self._size_bytes > self._limit_bytes:
            surplus = self._size_bytes - self._limit_bytes
            oldest = self._parts.popleft()
            if len(oldest) > surplus:
                self._parts.appendleft(oldest[surplus:])
            cut = min(surplus, len(oldest))
            self._size_bytes -= cut
            self._dropped_bytes += cut

    def data(self) -> bytes:
        """Return what is kept, after a line that says what is not."""
        gap = f"\n[... {self._dropped_bytes} bytes of output not kept ...]\n" if self._dropped_bytes else ""
        return gap.encode() + b"".join(self._parts)


class AttemptLog:
    """A bounded log, safe for many writing threads.

    The first half of `limit_bytes` is on disk as soon as it is written; the last half is in memory until `close`.

    Args:
        path: the file; its folder exists. What it held is replaced.
        limit_bytes: most that is kept, in UTF-8 bytes, not counting the line that says what was dropped.

    Raises:
        ValueError: `limit_bytes` is below `MIN_LIMIT_BYTES`.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        if limit_bytes < MIN_LIMIT_BYTES:
            raise ValueError(f"a log of {limit_bytes} bytes is too short to be of use, {MIN_LIMIT_BYTES} is the least")
        self._path = path
        self._half_bytes = limit_bytes // 2
        self._lock = threading.Lock()
        self._head = bytearray()
        self._tail = _Newest(self._half_bytes)
        self._unread = _Newest(self._half_bytes)
        self._file = path.open("wb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def write(self, text: str) -> None:
        """Add text; after `close` it is dropped, because the attempt is over. Raises OSError."""
        data = text.encode(errors="replace")
        with self._lock:
            if self._file.closed:
                return
            self._unread.add(data)
            room = self._half_bytes - len(self._head)
            if room > 0:
                self._head += data[:room]
                self._file.write(data[:room])
            if len(data) > max(room, 0):
                self._tail.add(data[max(room, 0) :])

    def take_new(self) -> str:
        """Return what was written since the last call, at most half the limit of it, the newest."""
        with self._lock:
            data = self._unread.data()
            self._unread = _Newest(self._half_bytes)
        return data.decode(errors="ignore")

    def text(self) -> str:
        """Return the whole log as it is kept."""
        with self._lock:  # decoded as one: a character may lie across the halves
            return (bytes(self._head) + self._tail.data()).decode(errors="ignore")

    def close(self) -> None:
        """Write the rest to the file; calling it twice changes nothing. Raises OSError."""
        with self._lock:
            if not self._file.closed:
                self._file.write(self._tail.data())
                self._file.close()
