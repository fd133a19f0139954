import fcntl
import os
import threading
import time
from pathlib import Path

import psutil
import pytest

from npuq.errors import ToolMissingError
from worker.npu_smi import NpuSmiError
from worker.npu_smi_tool import NpuSmi

TABLE = """\
| npu-smi 23.0.0   Version: 23.0.0 |
| NPU Name | Health | Power(W)  Temp(C) |
| Chip  Device | Bus-Id | AICore(%)  Memory-Usage(MB) |
| 0     310P3 | OK | 12.8  40 |
| 0     0 | 0000:01:00.0 | 0  900 / 21527 |
| NPU Chip | Process id | Process name | Process memory(MB) |
| No running processes found in NPU 0 |
"""
MAP = "NPU ID   Chip ID   Chip Logic ID   Chip Name\n0        0         0               Ascend 310P3\n"


def _program(folder: Path, body: str) -> str:
    path = folder / "npu-smi"
    path.write_text(f"#!/bin/sh\necho called >> {folder}/calls\n{body}\n")
    path.chmod(0o755)
    return str(path)


def _printing(folder: Path, text: str) -> str:
    (folder / "table").write_text(text)
    return _program(folder, f"cat {folder}/table")


def _calls(folder: Path) -> int:
    return len((folder / "calls").read_text().splitlines())


def test_info_is_read_and_remembered_for_a_while(tmp_path: Path) -> None:
    """Within the cache's time the program runs once."""
    tool = NpuSmi(_printing(tmp_path, TABLE), lock_path=tmp_path / "locks" / "smi", cache_seconds=60)
    assert tool.info() is tool.info()
    assert tool.info().chips[0].memory_used_mb == 900
    assert _calls(tmp_path) == 1


def test_without_a_cache_every_call_asks(tmp_path: Path) -> None:
    """Zero seconds means always fresh."""
    tool = NpuSmi(_printing(tmp_path, TABLE), lock_path=tmp_path / "lock", cache_seconds=0)
    tool.info()
    tool.info()
    assert _calls(tmp_path) == 2


def test_map_is_read(tmp_path: Path) -> None:
    """The second table has its own place in the cache."""
    tool = NpuSmi(_printing(tmp_path, MAP), lock_path=tmp_path / "lock")
    assert [row.logic_id for row in tool.map().map] == [0]


def test_missing_program_says_what_to_do(tmp_path: Path) -> None:
    """The host is to blame, and the sentence names the driver."""
    with pytest.raises(ToolMissingError, match="install the Ascend driver"):
        NpuSmi("npu-smi-that-is-not-there", lock_path=tmp_path / "lock").info()


def test_hanging_program_is_ended_with_its_children(tmp_path: Path) -> None:
    """Time-out is an error of its own, and nothing of the program's group is left."""
    program = _program(tmp_path, f"sleep 600 & echo $! > {tmp_path}/child\nwait")
    with pytest.raises(NpuSmiError, match="did not answer") as caught:
        NpuSmi(program, lock_path=tmp_path / "lock", timeout_seconds=0.5).info()
    assert caught.value.info.code == "npu_smi_timeout"
    child = int((tmp_path / "child").read_text())
    end = time.monotonic() + 10
    while _lives(child):
        assert time.monotonic() < end, "the program's child was not ended"
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    """Return whether a process still runs; a killed one needs a moment, and stays a zombie without a reaper."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("text", "code"), [("nothing of use", "npu_smi"), ("dcmi module initialize failed. ret is -8005", "npu_smi_driver")]
)
def test_no_table_is_unknown_and_never_remembered(tmp_path: Path, text: str, code: str) -> None:
    """A failure is raised each time anew; exit code 0 does not make it an answer."""
    tool = NpuSmi(_printing(tmp_path, text), lock_path=tmp_path / "lock", cache_seconds=60)
    for _ in range(2):
        with pytest.raises(NpuSmiError, match="unknown") as caught:
            tool.info()
        assert caught.value.info.code == code
    assert _calls(tmp_path) == 2


def test_exit_code_is_not_trusted_against_a_table(tmp_path: Path) -> None:
    """A table is an answer even when the program says it failed."""
    program = _printing(tmp_path, TABLE)
    Path(program).write_text(Path(program).read_text() + "exit 3\n")
    assert NpuSmi(program, lock_path=tmp_path / "lock").info().ok


def test_callers_of_one_host_take_turns(tmp_path: Path) -> None:
    """Two callers with the same lock file never run the program at once."""
    (tmp_path / "table").write_text(TABLE)
    program = _program(
        tmp_path, f"mkdir {tmp_path}/busy || exit 1\nsleep 0.05\nrmdir {tmp_path}/busy\ncat {tmp_path}/table"
    )
    tools = [NpuSmi(program, lock_path=tmp_path / "lock", cache_seconds=0) for _ in range(3)]
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda tool=tool: answers.append(tool.info().ok)) for tool in tools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True, True, True]


def test_a_stopped_caller_does_not_stop_the_others_for_ever(tmp_path: Path) -> None:
    """The wait for the lock has a limit, and its end is an error, not an answer."""
    tool = NpuSmi(_printing(tmp_path, TABLE), lock_path=tmp_path / "lock", timeout_seconds=0.1)
    descriptor = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(NpuSmiError, match="another caller"):
            tool.info()
    finally:
        os.close(descriptor)
    assert tool.info().ok


def test_a_chip_is_asked_for_by_card_and_chip(tmp_path: Path) -> None:
    """Each chip's board is an answer of its own."""
    program = _program(tmp_path, 'echo "Chip Name : 310P3"\necho "Die ID : $5-$7"')
    tool = NpuSmi(program, lock_path=tmp_path / "lock", cache_seconds=60)
    assert [tool.board(4, 0).die_id, tool.board(4, 1).die_id, tool.board(4, 0).die_id] == ["4-0", "4-1", "4-0"]
    assert _calls(tmp_path) == 2


def test_a_chips_health_is_read(tmp_path: Path) -> None:
    """With the driver's codes."""
    tool = NpuSmi(_printing(tmp_path, "Health Status : Alarm\nError Code : 80E3A203\n"), lock_path=tmp_path / "lock")
    assert tool.health(0, 0).error_codes == ("80E3A203",)
