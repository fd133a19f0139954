"""One owner per chip, guaranteed by the kernel.

A worker holds the chip's lock file and lets every process of its jobs inherit the descriptor: the lock is free only
when the last of them is gone, whatever killed the others. Who gets the lock therefore knows that nothing of a
predecessor is left.
"""

import fcntl
import os
import tempfile
import time
from pathlib import Path
from typing import Final, Self

from npuq.errors import DeviceBusyError

PROBE_SECONDS: Final = 0.1


def lock_folder(home: Path, *, emulated: bool) -> Path:
    """Return where the locks of this host's chips lie.

    Real chips are locked for the whole host, whichever npuq home a worker uses; emulated ones belong to their home.
    """
    if emulated:
        return home / "run" / "locks"
    return Path(tempfile.gettempdir()) / "npuq-locks"


class DeviceLock:
    """The lock of one device, held until `release` and until no process that inherited it is left."""

    def __init__(self, folder: Path, device_id: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._device_id = device_id
        self._descriptor = os.open(folder / f"{device_id}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

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
