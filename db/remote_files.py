"""The seam to fsspec: files under keys in a store that is not a folder of this host.

Every call is bounded in time, and whatever a driver raises becomes an ArtifactError that says what to do. Importing
this loads fsspec, so it is imported only for a remote store. It knows nothing of digests.
"""

import errno
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.callbacks import Callback
from fsspec.core import url_to_fs

from db.local_files import no_copy
from npuq.config import redact
from npuq.errors import ArtifactError, ConfigError

Progress = Callable[[int], None]

CONNECT_TIMEOUT_SECONDS: Final = 5
READ_TIMEOUT_SECONDS: Final = 30
TRIES: Final = 3
PART_BYTES: Final = 16 * 2**20
"""Of an upload in parts; ten of them are in memory at once. S3 takes 10 000 parts: 156 GiB."""
CALL_LIMIT_SECONDS: Final = 90.0
"""A call that carries no file takes no longer, whatever the driver tries."""
SLOWEST_BYTES_PER_SECOND: Final = 128 * 1024
"""A transfer gets the call's limit and as long as a line of this speed needs."""
_S3: Final = frozenset({"s3", "s3a"})
_S3_OPTIONS: Final = {
    # A name that another host has just made must be seen at once.
    "use_listings_cache": False,
    "config_kwargs": {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "read_timeout": READ_TIMEOUT_SECONDS,
        "retries": {"mode": "standard", "total_max_attempts": 1},  # s3fs tries again itself
    },
}
_CREDENTIALS: Final = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what that key may do in the bucket"
_ADDRESS: Final = "check that it is up and that its address is right (store_url; for S3 also AWS_ENDPOINT_URL_S3)"
_CERTIFICATE: Final = "name the authority of its certificate in AWS_CA_BUNDLE, and the host as the certificate does"
_SERVERS_TROUBLE: Final = 500
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class RemoteFiles:
    """The files of one store; keys are paths below its URL.

    Args:
        url: of fsspec, for example `s3://bucket/folder`.

    Raises:
        ConfigError: the URL is malformed, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        protocol = url.partition("://")[0]
        self.url = redact(url)
        try:
            self._fs, self._root = _open(url, protocol)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"store_url {self.url!r}: {error}") from error
        #: An object of S3 appears whole when its upload is complete; elsewhere a rename has to see to that.
        self._appears_whole = protocol in _S3

    def exists(self, key: str) -> bool:
        """Tell whether there is a file; raises ArtifactError when the store does not say."""
        with self._translated():
            return bool(self._fs.exists(self._path(key), **self._limit()))

    def upload(self, source: Path, key: str, progress: Progress | None = None) -> None:
        """Store a file under a key that never stands for a part of it; raises ArtifactError."""
        target = self._path(key)
        temporary = f"{self._root}/incoming/{target.rpartition('/')[2]}.{secrets.token_hex(4)}"
        options = {"chunksize": PART_BYTES} if self._appears_whole else {}
        size_bytes, reported = source.stat().st_size, _Reported(progress)
        with self._translated():
            self._make_folder(temporary)
            self._fs.put_file(
                str(source),
                target if self._appears_whole else temporary,
                callback=reported,
                **options,
                **self._limit(size_bytes),
            )
            reported.complete(size_bytes)
            if not self._appears_whole:
                self._rename(temporary, target)

    def download(self, key: str, target: Path) -> None:
        """Write a file's bytes to `target`; raises ArtifactError, which is final when there is no such file."""
        path = self._path(key)
        with self._translated():
            size = self._fs.size(path, **self._limit()) or 0
            self._fs.get_file(path, str(target), **self._limit(size))

    def move(self, key: str, target: str) -> None:
        """Give a file another key; raises ArtifactError."""
        with self._translated():
            self._rename(self._path(key), self._path(target))

    def _rename(self, path: str, target: str) -> None:
        self._make_folder(target)
        self._fs.mv(path, target)

    def _make_folder(self, path: str) -> None:
        if not self._appears_whole:  # S3 has no folders; asked for one, s3fs would try to make the bucket
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _limit(self, size_bytes: int = 0) -> dict[str, float]:
        """Return the option that ends a call in time; only drivers that work asynchronously have one."""
        if not isinstance(self._fs, AsyncFileSystem):
            return {}
        return {"timeout": CALL_LIMIT_SECONDS + size_bytes / SLOWEST_BYTES_PER_SECOND}

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn whatever a driver raises into our error: drivers let through what their transport raises."""
        try:
            yield
        except FileNotFoundError as error:
            raise self._absent(error) from error
        except PermissionError as error:
            raise ArtifactError(f"the artifact store {self.url} refuses: {error}; {_CREDENTIALS}") from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                raise no_copy(error) from error
            name, said = type(error).__name__, str(error).strip()
            raise ArtifactError(
                f"cannot reach the artifact store {self.url}: {said or name}; {_advice(name, said)}"
            ) from error

    def _absent(self, error: FileNotFoundError) -> ArtifactError:
        if _s3_code(error) == "NoSuchBucket":
            return ArtifactError(f"the artifact store {self.url} has no such bucket; make it, or correct store_url")
        return ArtifactError(f"the artifact store {self.url} lacks {error}", retry=False)


class _Reported(Callback):  # type: ignore[misc]  # fsspec has no types
    """Hands the progress of an upload on."""

    def __init__(self, progress: Progress | None) -> None:
        super().__init__()
        self._progress = progress
        self._told_bytes = 0

    def complete(self, size_bytes: int) -> None:
        """Tell of what a driver sent without a word."""
        if size_bytes > self._told_bytes:
            self.relative_update(size_bytes - self._told_bytes)

    def relative_update(self, inc: int = 1) -> None:
        """Take the number of bytes of a piece that was sent."""
        super().relative_update(inc)
        self._told_bytes += inc
        if self._progress is not None:
            self._progress(inc)


def _open(url: str, protocol: str) -> tuple[AbstractFileSystem, str]:
    fs, root = url_to_fs(url, **(_S3_OPTIONS if protocol in _S3 else {}))
    if protocol in _S3:
        from s3fs.core import set_custom_error_handler

        fs.retries = TRIES
        set_custom_error_handler(is_servers_trouble)
    return fs, str(root)


def is_servers_trouble(error: Exception) -> bool:
    """Tell whether S3 said that it failed itself: it may not the next time, and one of thousands of requests does."""
    response: Any = getattr(error, "response", {})
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return bool(status >= _SERVERS_TROUBLE)


def _s3_code(error: BaseException) -> str:
    """Return the code in S3's answer, "" when there was none."""
    response: Any = getattr(error.__cause__, "response", {})
    return str(response.get("Error", {}).get("Code", ""))


def _advice(name: str, said: str) -> str:
    if "Credentials" in name:
        return _CREDENTIALS
    return _CERTIFICATE if "SSL" in name or "certificate" in said.lower() else _ADDRESS
