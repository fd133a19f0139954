import subprocess
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import update

from db import devices
from db.records import DeviceRecord
from db.tables import Host
from db.types import db_now
from npuq.config import Settings
from npuq.errors import NpuqError, ToolMissingError
from npuq.states import DeviceKind, DeviceState
from tests.services.waiting import wait_until
from tests.services.world import CHIP, OTHER_CHIP, SLOT, World
from tests.unit.worker.test_discovery import FakeNpuSmi, as_tool, chip
from worker.health import GOOD_LOOKS
from worker.launcher import BACKOFF_CAP_SECONDS, HEALTHY_SECONDS, Launcher, WorkerProcess, WorkerSpec
from worker.npu_smi import Chip, NpuSmiInfo


class FakeProcess:
    """A process that lives until the test ends it."""

    started: list["FakeProcess"]

    def __init__(self, command: list[str], **_options: Any) -> None:
        self.command = command
        self.pid = 1_000 + len(self.started)
        self.returncode: int | None = None
        self.started.append(self)

    def poll(self) -> int | None:
        """Return the exit code, None while it lives."""
        return self.returncode

    def kill(self) -> None:
        """End it."""
        self.returncode = -9

    def terminate(self) -> None:
        """End it in good order."""
        self.returncode = 0

    def wait(self, timeout: float | None = None) -> int | None:
        """Return the exit code."""
        assert timeout is None or timeout >= 0
        return self.returncode


class HangingNpuSmi(FakeNpuSmi):
    """Answers only while the test lets it."""

    def __init__(self, *chips: Chip) -> None:
        super().__init__(*chips)
        self.answers = threading.Event()
        self.answers.set()
        self.looks = 0

    def info(self) -> NpuSmiInfo:
        """Return the table, late."""
        self.looks += 1
        assert self.answers.wait(30.0)
        return super().info()


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[FakeProcess]:
    """Return the processes that are started instead of real ones."""
    FakeProcess.started = []
    fake = SimpleNamespace(Popen=FakeProcess, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr("worker.launcher.subprocess", fake)
    return FakeProcess.started


def fleet(world: World) -> dict[str, DeviceRecord]:
    """Return the devices as they are shown."""
    return {item.device_id: item for item in world.read(devices.find, suspect_seconds=30.0)}


def launcher_of(world: World, settings: Settings, tool: FakeNpuSmi) -> Launcher:
    """Return a launcher of the world's host, which looks at its chips at every turn."""
    timing = settings.timing.model_copy(update={"probe_seconds": 1e-9})
    return Launcher(settings.model_copy(update={"timing": timing}), world.database, as_tool(tool))


def test_one_worker_per_chip_and_one_for_the_host(
    sqlite_world: World, settings: Settings, processes: list[FakeProcess]
) -> None:
    """Each is told which devices are its own; a second turn starts nothing more."""
    found = launcher_of(sqlite_world, settings, FakeNpuSmi(chip(0, device_id=0), chip(1, device_id=1)))
    found.run_once()
    found.run_once()
    assert [process.command[-1] for process in processes] == [CHIP, OTHER_CHIP, "h1.host.1"]
    assert processes[2].command[-2:] == ["h1.host.0", "h1.host.1"]
    assert {item.state for item in fleet(sqlite_world).values()} == {DeviceState.ONLINE}


def test_a_launcher_leaves_another_machines_host_alone(
    sqlite_world: World, settings: Settings, processes: list[FakeProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts nothing, does not beat for the other, and does not call its devices lost when it stops."""
    launcher_of(sqlite_world, settings, FakeNpuSmi(chip(0, device_id=0))).run_once()
    before = sqlite_world.read(devices.hosts)
    count = len(processes)
    monkeypatch.setattr("worker.discovery.machine_id", lambda: "another")
    stranger = launcher_of(sqlite_world, settings, FakeNpuSmi(chip(0, device_id=0), chip(1, device_id=1)))
    with pytest.raises(devices.HostNameTakenError, match="another machine"):
        stranger.run_once()
    with pytest.raises(devices.HostNameTakenError):
        stranger.run_once()
    stranger.stop()
    assert len(processes) == count
    assert sqlite_world.read(devices.hosts) == before
    assert fleet(sqlite_world)[CHIP].state is DeviceState.ONLINE


def test_a_driver_that_hangs_does_not_silence_the_host(
    sqlite_world: World, settings: Settings, processes: list[FakeProcess]
) -> None:
    """It beats meanwhile, and begins no second look before the first has ended."""
    quick = settings.timing.model_copy(update={"beat_seconds": 1e-3})
    tool = HangingNpuSmi(chip(0, device_id=0))
    found = launcher_of(sqlite_world, settings.model_copy(update={"timing": quick}), tool)

    def has_workers() -> bool:
        found.run_once()
        return bool(processes)

    wait_until(has_workers, "the first look is taken", 10.0)
    tool.answers.clear()
    found.run_once()
    with sqlite_world.database.write() as connection:
        connection.execute(update(Host).values(heartbeat_at=db_now(-60)))
    found.run_once()
    assert fleet(sqlite_world)[CHIP].state is DeviceState.ONLINE
    wait_until(lambda: tool.looks == 2, "the second look hangs", 10.0)
    tool.answers.set()

    def looked_again() -> bool:
        found.run_once()
        return tool.looks > 2

    wait_until(looked_again, "the look ends and the next one begins", 10.0)


def test_a_worker_that_dies_is_started_again(
    sqlite_world: World, settings: Settings, processes: list[FakeProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a pause that grows, up to a minute, and begins anew after a healthy life."""
    worker = WorkerProcess(WorkerSpec(name=CHIP, devices=(CHIP,), feeders=1), "h1")
    now, pauses = 0.0, []
    for _ in range(10):
        worker.tend(now)
        processes[-1].kill()
        count, died = len(processes), now
        while len(processes) == count:
            now += 0.25
            worker.tend(now)
        pauses.append(now - died)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, *[BACKOFF_CAP_SECONDS] * 3]
    processes[-1].kill()
    now += HEALTHY_SECONDS + 1
    count = len(processes)
    worker.tend(now)
    assert len(processes) == count + 1


def test_a_chip_that_vanishes_is_lost_and_comes_back(
    sqlite_world: World, settings: Settings, processes: list[FakeProcess]
) -> None:
    """What people or health said of a chip stays; `lost` is taken back after three good looks."""
    both = FakeNpuSmi(chip(0, device_id=0), chip(1, device_id=1))
    launcher_of(sqlite_world, settings, both).run_once()
    sqlite_world.transact(devices.set_state, OTHER_CHIP, DeviceState.DRAINING, "maintenance")
    launcher_of(sqlite_world, settings, FakeNpuSmi()).run_once()
    shown = fleet(sqlite_world)
    assert (shown[CHIP].state, shown[OTHER_CHIP].state) == (DeviceState.LOST, DeviceState.DRAINING)
    assert shown[CHIP].state_reason == "no longer seen by its host"
    again = launcher_of(sqlite_world, settings, both)
    for _ in range(GOOD_LOOKS - 1):
        again.run_once()
    assert fleet(sqlite_world)[CHIP].state is DeviceState.LOST
    again.run_once()
    shown = fleet(sqlite_world)
    assert (shown[CHIP].state, shown[CHIP].state_reason) == (DeviceState.ONLINE, "")
    assert shown[OTHER_CHIP].state is DeviceState.DRAINING


def test_one_failed_look_is_forgiven_two_are_not(
    sqlite_world: World, settings: Settings, processes: list[FakeProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`npu-smi` hiccups; a chip whose state stays unknown gets no new work, host work goes on."""
    tool = FakeNpuSmi(chip(0, device_id=0))
    found = launcher_of(sqlite_world, settings, tool)
    found.run_once()

    def fails() -> None:
        raise NpuqError("npu-smi printed no table")

    monkeypatch.setattr(tool, "info", fails)
    found.run_once()
    assert fleet(sqlite_world)[CHIP].state is DeviceState.ONLINE
    found.run_once()
    shown = fleet(sqlite_world)
    assert (shown[CHIP].state, shown[SLOT].state) == (DeviceState.DRAINING, DeviceState.ONLINE)


def test_a_host_without_cards_does_host_work(
    sqlite_world: World, settings: Settings, processes: list[FakeProcess]
) -> None:
    """A machine with ATC and no NPU converts for the others."""
    tool = FakeNpuSmi(error=ToolMissingError("there is no npu-smi"))
    launcher_of(sqlite_world, settings, tool).run_once()
    assert len(processes) == 1
    online = [item for item in fleet(sqlite_world).values() if item.state is DeviceState.ONLINE]
    assert {item.kind for item in online} == {DeviceKind.HOST}


def test_a_launcher_that_stops_says_goodbye(
    sqlite_world: World, settings: Settings, processes: list[FakeProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its devices get nothing new once its workers are asked to end, and are lost then, not after a silence."""
    found = launcher_of(sqlite_world, settings, FakeNpuSmi(chip(0, device_id=0)))
    found.run_once()
    seen: list[DeviceState] = []

    def terminate(process: FakeProcess) -> None:
        seen.append(fleet(sqlite_world)[CHIP].state)
        process.returncode = 0

    monkeypatch.setattr(FakeProcess, "terminate", terminate)
    found.stop()
    assert seen == [DeviceState.DRAINING] * 2
    assert [process.returncode for process in processes] == [0, 0]
    shown = fleet(sqlite_world)[CHIP]
    assert (shown.state, shown.state_reason) == (DeviceState.LOST, "its host was stopped")
