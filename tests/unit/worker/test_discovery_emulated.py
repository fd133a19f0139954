"""What a launcher finds on hosts of every kind, asked of the emulated `npu-smi`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db.records import NewDevice
from npuq.config import Settings
from npuq.entry import INSTALLATION
from worker import discovery
from worker.npu_smi import NpuSmiError
from worker.npu_smi_tool import NpuSmi

Host = Callable[..., "EmulatedHost"]


class EmulatedHost:
    """A host with an emulated `npu-smi` on PATH."""

    def __init__(self, home: Path, *options: str) -> None:
        self._fleet = home / "fleet.json"
        command = [sys.executable, "-m", "emulator", "install", "--home", str(home), *options]
        subprocess.run(command, cwd=INSTALLATION, check=True, capture_output=True)
        self._settings = Settings(home=home / "npuq", host_name="h")
        self.npu_smi = NpuSmi(lock_path=home / "npu-smi.lock", cache_seconds=0)
        self.boards = discovery.Boards(self.npu_smi)

    def look(self, known: dict[str, str] | None = None) -> list[NewDevice]:
        """Return the chips."""
        return discovery.chips(self._settings, self.npu_smi, self.boards, known or {})[0]

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the fleet file."""
        fleet = json.loads(self._fleet.read_text())
        change(fleet)
        self._fleet.write_text(json.dumps(fleet))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a function that sets up a host with the emulator's options."""
    home = tmp_path / "npus"
    monkeypatch.setenv("NPUQ_EMULATOR_HOME", str(home))
    monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return lambda *options: EmulatedHost(home, *options)


def test_sparse_numbers_and_two_chips_per_card(host: Host) -> None:
    """Logic ids count through, controllers are no chips, everything is emulated."""
    found = host("--cards", "2", "--chips-per-card", "2", "--npu-ids", "1,4").look()
    assert [(chip.device_id, chip.logic_id) for chip in found] == [
        ("h.npu1.0", 0),
        ("h.npu1.1", 1),
        ("h.npu4.0", 2),
        ("h.npu4.1", 3),
    ]
    assert {(chip.soc_version, chip.health, chip.emulated) for chip in found} == {("Ascend310P3", "OK", True)}
    assert len({chip.identity for chip in found}) == 4


def test_logic_ids_of_cards_that_do_not_show_them(host: Host) -> None:
    """A 910B3's come from `-m`, its memory is the HBM."""
    found = host("--cards", "2", "--chip", "910B3", "--driver", "25.5.1").look()
    assert [(chip.logic_id, chip.phy_id, chip.memory_total_mib) for chip in found] == [
        (0, None, 65536),
        (1, None, 65536),
    ]


def test_a3_is_named_by_its_board(host: Host) -> None:
    """Its table says `Ascend910`; physical ids are there for containers."""
    found = host("--cards", "1", "--chip", "Ascend910", "--chips-per-card", "2").look()
    assert [chip.soc_version for chip in found] == ["Ascend910_9391"] * 2
    assert [(chip.logic_id, chip.phy_id) for chip in found] == [(0, 0), (1, 1)]


def test_cards_of_several_kinds_in_one_host(host: Host) -> None:
    """Each has its own soc version."""
    mixed = host("--cards", "2")
    mixed.edit(lambda fleet: fleet["chips"][1].update(name="310P1"))
    assert [chip.soc_version for chip in mixed.look()] == ["Ascend310P3", "Ascend310P1"]


def test_renumbered_chips_are_the_same_devices(host: Host) -> None:
    """After a reboot that numbers and plugs the cards anew, the rows are found by the dies."""
    machine = host("--cards", "2")
    before = machine.look()
    known = {chip.identity: chip.device_id for chip in before}

    def renumber(fleet: dict[str, Any]) -> None:
        for chip, npu_id in zip(fleet["chips"], (5, 3), strict=True):
            chip.update(npu_id=npu_id, bus_id=f"0000:{npu_id:02X}:00.0", logic_id=1 - chip["logic_id"])

    machine.edit(renumber)
    after = {chip.device_id: chip for chip in machine.look(known)}
    assert sorted(after) == ["h.npu0.0", "h.npu1.0"]
    assert [(chip.npu_id, chip.logic_id) for chip in (after["h.npu0.0"], after["h.npu1.0"])] == [(5, 1), (3, 0)]


def test_a_container_sees_what_is_mapped(host: Host) -> None:
    """A chip that is not there is not there; the others keep their rows."""
    machine = host("--cards", "2")
    known = {chip.identity: chip.device_id for chip in machine.look()}
    machine.edit(lambda fleet: fleet["chips"].pop(0))
    assert [chip.device_id for chip in machine.look(known)] == ["h.npu1.0"]


def test_a_chip_whose_board_cannot_be_read_does_not_take_the_others_with_it(host: Host, tmp_path: Path) -> None:
    """It is left out where dies name the rows, and named by its place where they do not yet; all silent: unknown."""
    machine = host("--cards", "2")
    known = {chip.identity: chip.device_id for chip in machine.look()}
    program = tmp_path / "npus/bin/npu-smi"
    whole = program.read_text()

    def spoil(places: str) -> None:
        sick = f'case "$*" in *board*"{places}"*) echo "dcmi get board info failed. ret is -8008"; exit 1;; esac'
        program.write_text(whole.replace("exec ", f"{sick}\nexec ", 1))
        machine.boards = discovery.Boards(machine.npu_smi)

    spoil("-i 0 ")
    assert [chip.device_id for chip in machine.look(known)] == ["h.npu1.0"]
    assert [chip.device_id for chip in machine.look()] == ["h.npu0.0", "h.npu1.0"]
    spoil("-i ")
    with pytest.raises(NpuSmiError, match="unknown"):
        machine.look(known)


def test_boards_are_asked_once(host: Host, tmp_path: Path) -> None:
    """Every further look costs one call."""
    machine = host("--cards", "2")
    machine.look()
    program = tmp_path / "npus/bin/npu-smi"
    program.write_text(program.read_text().replace("exec ", f'echo "$@" >> {tmp_path}/calls\nexec ', 1))
    machine.look()
    assert (tmp_path / "calls").read_text().splitlines() == ["info"]
