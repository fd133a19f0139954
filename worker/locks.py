"""One owner per chip, guaranteed by the kernel.

A worker holds the chip's lock file and lets every process of its jobs inherit the descriptor: the lock is free only
when the last of them is gone, whatever killed the others. Who gets the lock therefore knows that nothing of a
predecessor is left.
"""

import fcntl
import os
import time
from pathlib import Path
from typing import Final, Self

from npuq.errors import Blame, DeviceBusyError, NpuqError

HOST_LOCKS: Final = Path("/run/lock/npuq")
PROBE_SECONDS: Final = 0.1


def lock_folder(home: Path, *, emulated: bool) -> Path:
    """Return where the locks of this host's chips lie.

    Real chips are locked for the whole host, whichever user, home or TMPDIR a worker has; emulated ones belong to their
    home.
    """
    return home / "run" / "locks" if emulated else HOST_LOCKS


class LockError(NpuqError):
    """The lock file of a device cannot be used, so nobody can say whether the device is free."""

    code = "device_lock"
    blame = Blame.HOST


def _make_shared(folder: Path) -> None:
    """Make a folder in which every user may lock and none may remove another's file."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        if folder == HOST_LOCKS:
            folder.chmod(0o1777)


class DeviceLock:
    """The lock of one device, held until `release` and until no process that inherited it is left."""

    def __init__(self, folder: Path, device_id: str) -> None:
        self._device_id = device_id
        path = folder / f"{device_id}.lock"
        try:
            _make_shared(folder)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise LockError(f"cannot use the lock {path} ({error}); give this user the right to write there") from error

    @property
    def descriptor(self) -> int:
        """Return the descriptor for children to inherit."""
        return self._descriptor

    def acquire(self, timeout_seconds: float) -> Self:
        """Take the lock, waiting for a predecessor's processes to end.

        Raises:
            DeviceBusyError: somebody still holds it after `timeout_seconds`.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DeviceBusyError(
                        f"{self._device_id} is still held by processes of another worker after {timeout_seconds:g} s; "
                        "find them with: fuser -v on its lock file"
                    ) from None
                time.sleep(PROBE_SECONDS)  # flock has no timed form
            else:
                return self

    def release(self) -> None:
        """Close our descriptor; children that inherited it keep the lock."""
        os.close(self._descriptor)
