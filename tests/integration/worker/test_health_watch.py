"""What looks at the chips of a host do to its rows."""

from dataclasses import replace

import pytest

from db import device_events, devices, jobs
from db.records import DeviceRecord
from npuq.errors import Blame, DeviceBusyError, ErrorInfo
from npuq.states import DeviceCause, DeviceState, JobState
from tests.services.world import CHIP, HOST, OWNER, SLOT, World, chip, decision_for, slot
from worker.device_faults import note_error
from worker.health import GOOD_LOOKS, LEAK_MIB
from worker.health_watch import IDLE_LOOKS, HealthWatch
from worker.npu_smi import Chip, NpuSmiInfo, Process

IDLE_MB = 1000
SICK = ErrorInfo(code="device_open", blame=Blame.DEVICE, message="it does not open", retry=True)


def _seen(number: int, health: str = "OK", used_mb: int = IDLE_MB) -> Chip:
    return Chip(
        npu_id=number,
        chip_id=0,
        name="310P3",
        health=health,
        power_w=None,
        temp_c=45,
        hugepages_used=None,
        hugepages_total=None,
        bus_id=None,
        aicore_percent=0,
        memory_used_mb=used_mb,
        memory_total_mb=21527,
        hbm_used_mb=None,
        hbm_total_mb=None,
        device_id=number,
        phy_id=None,
    )


def _info(*chips: Chip, processes: tuple[Process, ...] = ()) -> NpuSmiInfo:
    busy = {process.npu_id for process in processes}
    return NpuSmiInfo(
        ok=True,
        chips=chips,
        processes=processes,
        no_process_npus=tuple(chip.npu_id for chip in chips if chip.npu_id not in busy),
    )


class Watched:
    """A world whose two chips are looked at."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.watch = HealthWatch(world.database, HOST, suspect_seconds=60)

    def look(self, first: Chip, times: int = 1, *, processes: tuple[Process, ...] = ()) -> None:
        """See this of chip 0, and a well chip 1."""
        for _ in range(times):
            self.watch.look(_info(first, _seen(1), processes=processes), [chip(0), chip(1)])

    @property
    def device(self) -> DeviceRecord:
        """Return chip 0."""
        record: DeviceRecord = self.world.read(devices.get, CHIP, suspect_seconds=60)
        return record

    @property
    def standing(self) -> tuple[DeviceState, str]:
        """Return state and cause of chip 0."""
        return self.device.state, self.device.state_cause


@pytest.fixture
def watched(sqlite_world: World) -> Watched:
    """Return a world whose chips are looked at."""
    return Watched(sqlite_world)


def test_an_alarm_quarantines_and_good_looks_resume(watched: Watched) -> None:
    """The reason is kept while it is out; twice it comes back by itself, the third time it waits for a person."""
    for _ in range(2):
        watched.look(_seen(0, "Alarm"))
        assert watched.standing == (DeviceState.QUARANTINED, DeviceCause.ALARM)
        assert "Alarm" in watched.device.state_reason
        watched.look(_seen(0), GOOD_LOOKS)
        assert watched.standing == (DeviceState.ONLINE, DeviceCause.RETURNED)
    watched.look(_seen(0, "Alarm"))
    watched.look(_seen(0), GOOD_LOOKS)
    assert watched.standing == (DeviceState.QUARANTINED, DeviceCause.REPEATED)
    watched.look(_seen(0), 2 * GOOD_LOOKS)
    assert watched.standing == (DeviceState.QUARANTINED, DeviceCause.REPEATED)
    watched.world.transact(devices.set_state, CHIP, DeviceState.ONLINE, "new card")
    watched.look(_seen(0, "Alarm"))
    watched.look(_seen(0), GOOD_LOOKS)
    assert watched.standing == (DeviceState.ONLINE, DeviceCause.RETURNED)


def test_a_vanished_chip_proves_itself(watched: Watched) -> None:
    """The others are not touched."""
    watched.watch.look(_info(_seen(1)), [chip(1)])
    assert watched.standing == (DeviceState.LOST, DeviceCause.VANISHED)
    assert watched.world.read(devices.get, "h1.npu1.0", suspect_seconds=60).state is DeviceState.ONLINE
    watched.world.register([chip(0), chip(1), slot(0), slot(1)])
    watched.look(_seen(0), GOOD_LOOKS - 1)
    assert watched.standing == (DeviceState.LOST, DeviceCause.VANISHED)
    watched.look(_seen(0))
    assert watched.standing == (DeviceState.ONLINE, DeviceCause.RETURNED)


def test_no_table_drains_until_there_is_one(watched: Watched) -> None:
    """Unknown is not gone: what runs goes on, nothing new comes."""
    watched.watch.silence(1)
    assert watched.standing == (DeviceState.ONLINE, DeviceCause.FOUND)
    watched.watch.silence(2)
    assert watched.standing == (DeviceState.DRAINING, DeviceCause.NO_ANSWER)
    watched.look(_seen(0))
    assert watched.standing == (DeviceState.ONLINE, DeviceCause.RETURNED)


def test_idle_memory_is_learned_and_a_leak_is_not(watched: Watched) -> None:
    """The median of idle looks; held memory makes the chip dirty and does not change what is usual."""
    for used_mb in (IDLE_MB, IDLE_MB + 40, IDLE_MB + 10):
        watched.look(_seen(0, used_mb=used_mb))
    assert watched.device.memory_baseline_mib == IDLE_MB + 10
    watched.look(_seen(0, used_mb=9000), 2)
    assert watched.standing == (DeviceState.QUARANTINED, DeviceCause.DIRTY)
    assert "9000 MiB" in watched.device.state_reason
    assert watched.device.memory_baseline_mib == IDLE_MB + 10
    watched.look(_seen(0), GOOD_LOOKS)
    assert watched.standing == (DeviceState.ONLINE, DeviceCause.RETURNED)


def test_small_leaks_add_up_to_a_dirty_chip(watched: Watched) -> None:
    """What is usual may rise, but not with every job that leaves a little behind."""
    for left_mb in range(0, 2000, 400):
        watched.look(_seen(0, used_mb=IDLE_MB + left_mb), IDLE_LOOKS)
    assert watched.standing == (DeviceState.QUARANTINED, DeviceCause.DIRTY)
    assert watched.device.memory_baseline_mib == IDLE_MB + LEAK_MIB


def test_memory_that_a_process_holds_is_no_leak(watched: Watched) -> None:
    """Strangers may share a chip; what is usual is what nobody holds."""
    watched.look(_seen(0))
    stranger = Process(npu_id=0, chip_id=0, pid=7, name="python", memory_mb=8000, container_pid=None)
    watched.look(_seen(0, used_mb=IDLE_MB + 8000), 3, processes=(stranger,))
    assert watched.standing == (DeviceState.ONLINE, DeviceCause.FOUND)
    assert watched.device.memory_baseline_mib == IDLE_MB


def test_a_resumed_chip_is_learned_anew(watched: Watched) -> None:
    """After a driver's upgrade the usual is another."""
    watched.look(_seen(0), 5)
    watched.look(_seen(0, used_mb=9000), 2)
    watched.world.transact(devices.set_state, CHIP, DeviceState.ONLINE, "new driver")
    watched.look(_seen(0, used_mb=9000))
    assert watched.device.memory_baseline_mib == 9000
    assert watched.standing == (DeviceState.ONLINE, DeviceCause.PERSON)


def test_errors_take_a_chip_out_at_their_own_limits(sqlite_world: World) -> None:
    """Twice cannot be opened, once dead, never for a kernel that fails or a stranger; a slot never."""

    def fail(error: ErrorInfo, device_id: str = CHIP) -> DeviceState:
        job = sqlite_world.job(JobState.RUNNING, device_id=device_id)
        record = sqlite_world.record(job)
        device = sqlite_world.read(devices.get, device_id, suspect_seconds=60)
        decision = decision_for(error, record)
        sqlite_world.transact(jobs.fail, job.job_id, job.attempt, owner=OWNER, error=error, decision=decision)
        sqlite_world.transact(note_error, device, error)
        after: DeviceRecord = sqlite_world.read(devices.get, device_id, suspect_seconds=60)
        return after.state

    assert fail(replace(SICK, code="device_exception")) is DeviceState.ONLINE
    assert fail(replace(SICK, code="device_exception")) is DeviceState.ONLINE
    assert fail(replace(SICK, code="device_exception")) is DeviceState.ONLINE
    assert fail(replace(SICK, code=DeviceBusyError.code)) is DeviceState.ONLINE
    assert fail(SICK) is DeviceState.ONLINE
    assert fail(SICK, SLOT) is DeviceState.ONLINE
    assert fail(SICK) is DeviceState.QUARANTINED
    (event, *_) = sqlite_world.read(device_events.of_device, CHIP)
    assert (event.cause, "device_open 2 times" in event.reason) == (DeviceCause.ERRORS, True)
    sqlite_world.transact(devices.set_state, CHIP, DeviceState.ONLINE, "")
    assert fail(replace(SICK, code="device_lost")) is DeviceState.QUARANTINED
