"""Looks at the chips of a host as `worker.health` rules, and writes what it says. One per launcher."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from db import device_events, devices
from db.engine import Database
from db.records import DeviceRecord, NewDevice
from npuq.log import get_logger
from npuq.states import DeviceCause, DeviceKind, DeviceState
from worker.chip_watch import look_at
from worker.health import LEAK_MIB, Look, Ruling, Standing, Streaks, baseline, is_idle, judge, judge_silence
from worker.npu_smi import NpuSmiInfo

IDLE_LOOKS: Final = 5
log = get_logger(__name__)


@dataclass
class _Memory:
    """What this launcher remembers of one chip; `least_mib`: the least that was usual."""

    streaks: Streaks = field(default_factory=Streaks)
    idle_mib: deque[int] = field(default_factory=lambda: deque(maxlen=IDLE_LOOKS))
    least_mib: int | None = None

    def usual(self, *, processes_known: bool) -> int:
        """Return what is usual now: it may rise with the system's caches, but small leaks must not add up to it."""
        seen = baseline(list(self.idle_mib), processes_known=processes_known)
        self.least_mib = seen if self.least_mib is None else min(seen, self.least_mib)
        return min(seen, self.least_mib + LEAK_MIB)


class HealthWatch:
    """The health of this host's chips."""

    def __init__(self, database: Database, host: str, suspect_seconds: float) -> None:
        self._database = database
        self._host = host
        self._suspect_seconds = suspect_seconds
        self._memory: dict[str, _Memory] = {}

    def look(self, info: NpuSmiInfo, chips: Sequence[NewDevice]) -> None:
        """Judge every chip of this host after a table was read; chips that are not in it have vanished."""
        places = {chip.device_id: (chip.npu_id, chip.chip_id) for chip in chips}
        for device, standing in self._standings():
            place = places.get(device.device_id)
            look = Look(health=None) if place is None else look_at(info, place)
            memory = self._memory.setdefault(device.device_id, _Memory())
            memory.streaks = memory.streaks.after(look, standing)
            self._learn(device, standing, look, memory)
            self._apply(device, judge(look, standing, memory.streaks))

    def silence(self, failed_looks: int) -> None:
        """Judge every chip of this host after so many looks in a row gave no table."""
        for device, standing in self._standings():
            self._memory.pop(device.device_id, None)
            self._apply(device, judge_silence(standing, failed_looks))

    def _standings(self) -> list[tuple[DeviceRecord, Standing]]:
        with self._database.read() as connection:
            found = devices.find(connection, suspect_seconds=self._suspect_seconds, kind=DeviceKind.NPU)
            falls = device_events.falls(connection, self._host)
        return [(device, _standing(device, falls)) for device in found if device.host == self._host]

    def _learn(self, device: DeviceRecord, standing: Standing, look: Look, memory: _Memory) -> None:
        if look.unowned_memory_mib is None or not is_idle(look, standing):
            return
        if standing.baseline_mib is None:
            # A person resumed it: what was usual before no longer counts.
            memory.idle_mib.clear()
            memory.least_mib = None
        memory.idle_mib.append(look.unowned_memory_mib)
        learned = memory.usual(processes_known=look.processes_known)
        if learned != standing.baseline_mib:
            self._database.transact(lambda c: devices.learn_baseline(c, device.device_id, learned))

    def _apply(self, device: DeviceRecord, ruling: Ruling | None) -> None:
        if ruling is None:
            return
        log.warning("device_judged", device=device.device_id, state=ruling.state.value, cause=ruling.cause.value)

        def write(connection: Connection) -> None:
            devices.move(connection, device.device_id, device.state_cause, ruling.state, ruling.cause, ruling.reason)

        self._database.transact(write)


def _standing(device: DeviceRecord, falls: Mapping[str, Mapping[DeviceCause, int]]) -> Standing:
    busy = device.state is DeviceState.BUSY
    return Standing(
        state=DeviceState.ONLINE if busy else device.state,
        cause=device.state_cause,
        in_use=busy,
        loaded=bool(device.loaded),
        baseline_mib=device.memory_baseline_mib,
        falls=falls.get(device.device_id, {}),
    )
