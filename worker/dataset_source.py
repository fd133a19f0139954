"""Brings files of a dataset from the store to one attempt, when its processes ask for them.

They have no credentials, so they ask here (`tasks.dataset_requests`). Only files that the dataset's manifest lists are
brought, and each to its own path below one folder of the attempt, as a hard link to this host's copy: making room in
the cache takes no file away from a job, and all of it goes with the attempt's folder. The samples that follow the one
that was asked for are brought too, so that the next questions find their answer.
"""

import json
import os
import secrets
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Final, Self

from db.artifacts import ArtifactStore, materialise
from npuq.errors import ArtifactError, Blame, InvalidRequestError, NpuqError
from npuq.log import get_logger
from tasks.dataset_manifest import FileEntry
from tasks.dataset_requests import MAX_LINE_BYTES
from tasks.datasets import chosen_samples, read_manifest
from tasks.steps import DatasetRef
from worker.step_errors import error_info

THREADS: Final = 8
AHEAD: Final = 32
_QUESTION_SECONDS: Final = 5.0
_BACKLOG: Final = 128
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid
log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """What an attempt may ask for.

    Attributes:
        files: path -> file, all of the dataset.
        order: paths of the samples in the order in which they will be asked for.
        positions: path -> its place in `order`.
    """

    files: Mapping[str, FileEntry]
    order: Sequence[str]
    positions: Mapping[str, int]

    @classmethod
    def of(cls, dataset: DatasetRef, samples: slice) -> Self:
        """Read a dataset's manifest; raises as `tasks.datasets.read_manifest` and `chosen_samples`."""
        manifest = read_manifest(dataset)
        order = [sample.path for sample in chosen_samples(dataset, manifest)[samples]]
        return cls(
            files={file.path: file for file in manifest.files},
            order=order,
            positions={path: position for position, path in enumerate(order)},
        )

    def after(self, path: str, count: int) -> Sequence[str]:
        """Return the paths that will be asked for next."""
        position = self.positions.get(path)
        return () if position is None else self.order[position + 1 : position + 1 + count]


class DatasetSource:
    """Answers the processes of one attempt, from `start` to `close`.

    Args:
        store: where the files are kept.
        dataset: with the attempt's own folder as its root.
        samples: which of the samples that are used will be asked for.
    """

    def __init__(self, store: ArtifactStore, dataset: DatasetRef, samples: slice) -> None:
        self._store = store
        self._dataset = dataset
        self._samples = samples
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="dataset")
        self._under_way: dict[str, Future[None]] = {}
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._listen, name="dataset-source", daemon=True)
        self.address = f"npuq-{os.getpid()}-{secrets.token_hex(8)}"
        """In the abstract namespace: short whatever NPUQ_HOME is, and the kernel removes it with this process."""

    def __enter__(self) -> Self:
        self._listener.bind(f"\0{self.address}")
        self._listener.listen(_BACKLOG)
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Answer nobody any more; waits for what is being brought, so that nothing appears in the folder later."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        self._listener.close()
        self._pool.shutdown(cancel_futures=True)

    def bring(self, path: str) -> "Future[None]":
        """Begin to bring a file, and those that will be asked for next.

        Raises:
            InvalidRequestError: the dataset has no such file.
            NpuqError: the dataset's manifest cannot be used.
        """
        if path not in self._shelf.files:
            raise InvalidRequestError(f"The dataset {self._dataset.name!r} has no file {path!r}.")
        asked = self._begin(path)
        for following in self._shelf.after(path, AHEAD):
            if not (self._dataset.root / following).exists():
                self._begin(following)
        return asked

    @cached_property
    def _shelf(self) -> Shelf:
        """Return what may be asked for; read when the first file is missing, which may be never."""
        return Shelf.of(self._dataset, self._samples)

    def _begin(self, path: str) -> "Future[None]":
        with self._lock:
            future = self._under_way.get(path)
            if future is not None:
                return future
            future = self._under_way[path] = self._pool.submit(self._place, self._shelf.files[path])
        future.add_done_callback(lambda _: self._forget(path))
        return future

    def _forget(self, path: str) -> None:
        with self._lock:
            del self._under_way[path]

    def _place(self, file: FileEntry) -> None:
        try:
            materialise(self._store, file.sha256, self._dataset.root / file.path)
        except ArtifactError as error:
            raise self._undelivered(file, error) from error

    def _undelivered(self, file: FileEntry, error: ArtifactError) -> ArtifactError:
        """Return the error with the file's name, and with the way out when the store has lost it."""
        info, dataset = error.info, self._dataset
        lost = info.blame is Blame.FLEET and not info.retry
        again = f"npuq datasets add {dataset.name} FOLDER --format {dataset.format} --store"
        advice = f"; send it again: {again}" if lost else ""
        return ArtifactError(
            f"{file.path} of the dataset {dataset.name!r}: {info.message}{advice}",
            code=info.code,
            blame=info.blame,
            retry=info.retry,
        )

    def _listen(self) -> None:
        while True:
            try:
                channel, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                self._take_question(channel)
            except Exception:  # whatever somebody sent, the others want their answers
                log.exception("dataset_question_failed")
                channel.close()

    def _take_question(self, channel: socket.socket) -> None:
        channel.settimeout(_QUESTION_SECONDS)
        if not _is_ours(channel):
            channel.close()
            return
        try:
            with channel.makefile("rb") as lines:
                path = json.loads(lines.readline(MAX_LINE_BYTES))["path"]
            future = self.bring(path)
        except NpuqError as error:
            _answer(channel, error)
        except (OSError, ValueError, KeyError, TypeError):  # no question
            channel.close()
        else:
            future.add_done_callback(lambda done: _report(channel, done))


def _is_ours(channel: socket.socket) -> bool:
    """Tell whether a process of this user asks: names in the abstract namespace are open to all."""
    sent = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(sent)[1] == os.getuid())


def _report(channel: socket.socket, done: "Future[None]") -> None:
    """Tell what came of bringing a file; nothing when it was given up, because the attempt is over."""
    if done.cancelled():
        channel.close()
    else:
        _answer(channel, done.exception())


def _answer(channel: socket.socket, error: BaseException | None) -> None:
    info: dict[str, Any] | None = None if not isinstance(error, Exception) else error_info(error).as_dict()
    with channel, suppress(OSError):  # who asked may be gone
        channel.sendall(json.dumps({"error": info}).encode() + b"\n")
