import os
from pathlib import Path
from typing import cast

import psutil
import pytest

from db.records import NewDevice
from npuq.config import Settings
from npuq.errors import ToolMissingError
from npuq.states import DeviceKind
from worker import discovery
from worker.npu_smi import UNSUPPORTED, Board, Chip, MapRow, NpuSmiError, NpuSmiInfo, NpuSmiMap
from worker.npu_smi_tool import NpuSmi


def chip(npu_id: int, chip_id: int = 0, **changes: object) -> Chip:
    """Return a row of `npu-smi info`."""
    values: dict[str, object] = dict.fromkeys(Chip.__dataclass_fields__)
    values |= {"npu_id": npu_id, "chip_id": chip_id, "name": "310P3", "health": "OK", "bus_id": f"0000:0{npu_id}:00.0"}
    return Chip(**(values | changes))  # type: ignore[arg-type]


class FakeNpuSmi:
    """Answers with these chips, and with a map that counts how often it is asked."""

    def __init__(self, *chips: Chip, rows: tuple[MapRow, ...] = (), error: Exception | None = None) -> None:
        self._chips = chips
        self._rows = rows
        self._error = error
        self.maps = 0

    def info(self) -> NpuSmiInfo:
        """Return the table."""
        if self._error is not None:
            raise self._error
        return NpuSmiInfo(ok=True, chips=self._chips, driver_version="24.1", tool_version="24.1")

    def map(self) -> NpuSmiMap:
        """Return the map."""
        self.maps += 1
        return NpuSmiMap(map=self._rows, mcu_rows=0)

    def board(self, npu_id: int, chip_id: int) -> Board:
        """Refuse, as old cards do."""
        raise NpuSmiError(f"no board of {npu_id}/{chip_id}", code=UNSUPPORTED, retry=False)


def as_tool(fake: FakeNpuSmi) -> NpuSmi:
    """Return the fake under the type of the real one."""
    return cast("NpuSmi", fake)


def look(settings: Settings, fake: FakeNpuSmi) -> tuple[list[NewDevice], NpuSmiInfo]:
    """Look at a host whose rows nobody has written yet."""
    return discovery.chips(settings, as_tool(fake), discovery.Boards(as_tool(fake)), {})


def row(npu_id: int, chip_id: int, logic_id: int) -> MapRow:
    """Return a row of `npu-smi info -m`."""
    return MapRow(npu_id=npu_id, chip_id=chip_id, logic_id=logic_id, chip_name="Ascend 310P3")


def test_chips_are_addressed_by_logic_id_and_named_by_place(settings: Settings) -> None:
    """NPU numbers are neither dense nor from 0; the map tells the logic id, the place names the device."""
    fake = FakeNpuSmi(chip(2), chip(5, 1), rows=(row(5, 1, 1), row(2, 0, 0)))
    found, info = look(settings, fake)
    assert [(item.device_id, item.logic_id) for item in found] == [("h1.npu2.0", 0), ("h1.npu5.1", 1)]
    assert {item.soc_version for item in found} == {"Ascend310P3"}
    assert {item.kind for item in found} == {DeviceKind.NPU}
    assert len({item.identity for item in found}) == 2
    assert info.driver_version == "24.1"


def test_a_table_with_logic_ids_needs_no_map(settings: Settings) -> None:
    """One call of `npu-smi` fewer."""
    fake = FakeNpuSmi(chip(0, device_id=3))
    found, _ = look(settings, fake)
    assert ([item.logic_id for item in found], fake.maps) == ([3], 0)


def test_a_chip_without_a_logic_id_is_left_out(settings: Settings) -> None:
    """Nothing can be run on what cannot be addressed."""
    found, _ = look(settings, FakeNpuSmi(chip(0), chip(1), rows=(row(1, 0, 0),)))
    assert [item.device_id for item in found] == ["h1.npu1.0"]


def test_a_host_without_cards_is_told_apart_from_an_unknown_state(settings: Settings) -> None:
    """The caller decides; nothing is guessed here."""
    with pytest.raises(ToolMissingError):
        look(settings, FakeNpuSmi(error=ToolMissingError("there is no npu-smi")))


def test_slots_are_devices_of_their_own(settings: Settings) -> None:
    """As many as set, all with the host's toolchain, none with a chip."""
    found = discovery.slots(settings)
    assert [item.device_id for item in found] == ["h1.host.0", "h1.host.1"]
    assert all(item.kind is DeviceKind.HOST and item.logic_id is None and item.soc_version is None for item in found)


@pytest.mark.parametrize(("memory_gib", "cores", "slots"), [(4, 8, 1), (32, 2, 2), (24, 64, 3)])
def test_slots_are_bounded_by_memory_and_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_gib: int, cores: int, slots: int
) -> None:
    """A conversion may take 8 GiB; a small machine still gets one slot."""
    memory = type("Memory", (), {"total": memory_gib * 2**30})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert discovery.slot_count(Settings(home=tmp_path)) == slots


def test_a_hosts_name_is_safe_in_queues_and_files(tmp_path: Path) -> None:
    """Whatever the machine is called."""
    assert discovery.host_id(Settings(home=tmp_path, host_name="my host/é.local")) == "my-host-.local"
