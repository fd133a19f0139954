import subprocess
import sys
from pathlib import Path

import pytest

from npuq.errors import DeviceBusyError
from worker.locks import DeviceLock, lock_folder


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    """The second waits, then says who to look for; another device is free."""
    first = DeviceLock(tmp_path, "h1.npu0.0").acquire(0.0)
    second = DeviceLock(tmp_path, "h1.npu0.0")
    with pytest.raises(DeviceBusyError, match="still held by processes of another worker"):
        second.acquire(0.0)
    DeviceLock(tmp_path, "h1.npu1.0").acquire(0.0).release()
    first.release()
    second.acquire(0.0).release()


def test_the_lock_is_free_when_the_last_process_that_inherited_it_is_gone(tmp_path: Path) -> None:
    """A worker that dies leaves its job's processes holding the chip, whatever killed it."""
    lock = DeviceLock(tmp_path, "chip").acquire(0.0)
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock.descriptor], start_new_session=True
    )
    lock.release()
    successor = DeviceLock(tmp_path, "chip")
    with pytest.raises(DeviceBusyError):
        successor.acquire(0.0)
    child.communicate(b"\n", timeout=20)
    successor.acquire(5.0).release()


def test_other_programs_do_not_inherit_the_lock(tmp_path: Path) -> None:
    """Only those who are given the descriptor keep the chip."""
    lock = DeviceLock(tmp_path, "chip").acquire(0.0)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    lock.release()
    DeviceLock(tmp_path, "chip").acquire(5.0).release()
    child.communicate(b"\n", timeout=20)


def test_real_chips_are_locked_for_the_whole_host(tmp_path: Path) -> None:
    """Two homes on one host share the chips, but not the emulated ones."""
    homes = [tmp_path / "a", tmp_path / "b"]
    assert len({lock_folder(home, emulated=False) for home in homes}) == 1
    assert len({lock_folder(home, emulated=True) for home in homes}) == 2
