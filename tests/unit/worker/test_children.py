"""What speaks against a chip whose last process ended out of turn."""

import os
from dataclasses import replace

import pytest

from tasks.steps import DeviceRef
from worker.children import trouble_after_end
from worker.npu_smi import Chip, NpuSmiInfo, Process

DEVICE = DeviceRef(device_id="h.npu4.1", npu_id=4, chip_id=1, logic_id=3, soc_version="Ascend310P3", emulated=False)
CHIP = Chip(
    npu_id=4,
    chip_id=1,
    name="310P3",
    health="OK",
    power_w=None,
    temp_c=50,
    hugepages_used=None,
    hugepages_total=None,
    bus_id="0000:01:00.0",
    aicore_percent=0,
    memory_used_mb=1300,
    memory_total_mb=44280,
    hbm_used_mb=None,
    hbm_total_mb=None,
    device_id=3,
    phy_id=None,
)
NO_SUCH_PID = 2**22 + 1  # above the kernel's largest


def _process(pid: int, chip_id: int) -> Process:
    return Process(npu_id=4, chip_id=chip_id, pid=pid, name="python3", memory_mb=100, container_pid=None)


def test_a_healthy_empty_chip_is_sound() -> None:
    """Nothing speaks against it."""
    assert trouble_after_end(NpuSmiInfo(ok=True, chips=(CHIP,), no_process_npus=(4,)), DEVICE) is None


def test_a_vanished_chip_is_not_sound() -> None:
    """Another chip in the table does not stand for it."""
    other = replace(CHIP, chip_id=0)
    assert "no longer shows" in str(trouble_after_end(NpuSmiInfo(ok=True, chips=(other,)), DEVICE))


@pytest.mark.parametrize("health", ["Alarm", "Critical", "UNKNOWN"])
def test_a_sick_chip_is_not_sound(health: str) -> None:
    """Health says so in the driver's own word."""
    sick = replace(CHIP, health=health)
    assert health in str(trouble_after_end(NpuSmiInfo(ok=True, chips=(sick,)), DEVICE))


def test_the_row_of_a_dead_process_is_waited_for() -> None:
    """The driver has not let go of it yet."""
    info = NpuSmiInfo(ok=True, chips=(CHIP,), processes=(_process(NO_SUCH_PID, 1),))
    assert str(NO_SUCH_PID) in str(trouble_after_end(info, DEVICE))


def test_living_strangers_and_other_chips_do_not_matter() -> None:
    """Somebody else's process is the benchmark's business, not a leftover of ours."""
    rows = (_process(os.getpid(), 1), _process(NO_SUCH_PID, 0))
    assert trouble_after_end(NpuSmiInfo(ok=True, chips=(CHIP,), processes=rows), DEVICE) is None
