import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from emulator import npu_smi
from emulator.fleet import Chip, Fault, FaultKind, Fleet
from emulator.home import Home
from emulator.install import FleetPlan, build_fleet
from emulator.occupancy import Occupant, claim
from worker.npu_smi import parse_info, parse_list, parse_map

ONE_CHIP = """\
+--------------------------------------------------------------------------------------------------------+
| npu-smi 23.0.0                                   Version: 23.0.0                                       |
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============================+=================+======================================================+
| 0       310P3                 | OK              | 16.5         56                0     / 0             |
| 0       0                     | 0000:3B:00.0    | 0            929  / 21534                            |
+===============================+=================+======================================================+
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Chip                  | Process id      | Process name             | Process memory(MB)        |
+===============================+=================+======================================================+
| No running processes found in NPU 0                                                                    |
+===============================+=================+======================================================+
"""


def test_layout_is_that_of_the_real_tool() -> None:
    """Character by character, for the values of a real table."""
    chip = Chip(
        logic_id=0,
        npu_id=0,
        chip_id=0,
        bus_id="0000:3B:00.0",
        name="310P3",
        memory_total_mb=21534,
        memory_idle_mb=929,
        power_w=16.5,
        temp_c=56,
    )
    assert npu_smi.render_info(Fleet(chips=(chip,), driver_version="23.0.0"), []) == ONE_CHIP


@pytest.mark.parametrize(
    "plan",
    [
        FleetPlan(cards=2),
        FleetPlan(cards=2, chips_per_card=2, npu_ids=(1, 4), memory_mb=44280),
        FleetPlan(cards=2, chip="310", chips_per_card=4, npu_ids=(215, 2048)),
        FleetPlan(cards=1, chip="310B4"),
    ],
)
def test_the_parser_reads_back_the_fleet(plan: FleetPlan) -> None:
    """Npuq's own parser finds every chip with its numbers, in all three tables."""
    fleet = build_fleet(plan)
    info = parse_info(npu_smi.render_info(fleet, []))
    assert [
        (chip.npu_id, chip.chip_id, chip.device_id, chip.name, chip.bus_id, chip.memory_used_mb, chip.memory_total_mb)
        for chip in info.chips
    ] == [
        (chip.npu_id, chip.chip_id, chip.logic_id, chip.name, chip.bus_id, chip.memory_idle_mb, chip.memory_total_mb)
        for chip in fleet.chips
    ]
    assert info.driver_version is not None
    assert "emulated" in info.driver_version
    assert set(info.no_process_npus) == {chip.npu_id for chip in fleet.chips}
    rows = parse_map(npu_smi.render_map(list(fleet.chips)))
    assert [(row.npu_id, row.chip_id, row.logic_id) for row in rows.map] == [
        (chip.npu_id, chip.chip_id, chip.logic_id) for chip in fleet.chips
    ]
    assert rows.mcu_rows == plan.cards
    cards = parse_list(npu_smi.render_list(list(fleet.chips)))
    assert cards.total_count == plan.cards
    assert {card.chip_count for card in cards.npus} == {plan.chips_per_card}


def test_holders_show_with_their_memory() -> None:
    """Uses of one process are one row, its name is cut to 15 characters, and the chip's memory rises."""
    fleet = build_fleet(FleetPlan(cards=2))
    holders = [
        Occupant(logic_id=1, pid=70, start_ticks=1, name="a_very_long_process", memory_mb=memory)
        for memory in (100, 50)
    ]
    info = parse_info(npu_smi.render_info(fleet, holders))
    (process,) = info.processes
    assert (process.npu_id, process.pid, process.name, process.memory_mb) == (1, 70, "a_very_long_pro", 150)
    assert info.no_process_npus == (0,)
    assert info.chips[1].memory_used_mb == fleet.chips[1].memory_idle_mb + 150


def test_sick_and_lost_chips() -> None:
    """Alarm is shown, a lost chip is not."""
    faults = (Fault(device=0, kind=FaultKind.ALARM), Fault(device=1, kind=FaultKind.LOST))
    fleet = replace(build_fleet(FleetPlan(cards=3)), faults=faults)
    info = parse_info(npu_smi.render_info(fleet, []))
    assert [(chip.device_id, chip.health) for chip in info.chips] == [(0, "Alarm"), (2, "OK")]


def test_a_process_shows_while_it_lives(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """This process is listed by its pid until it gives the memory back."""
    held = claim(home, home.fleet().chips[0], 200)
    assert npu_smi.main(["info"]) == 0
    (process,) = parse_info(capsys.readouterr().out).processes
    assert (process.pid, process.memory_mb) == (os.getpid(), 200)
    held.release()
    npu_smi.main(["info"])
    assert parse_info(capsys.readouterr().out).processes == ()


def test_no_chip_left_is_the_drivers_failure(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """With every chip lost the tool fails as without a driver."""
    lost = tuple(Fault(device=chip.logic_id, kind=FaultKind.LOST) for chip in home.fleet().chips)
    home.edit(lambda fleet: replace(fleet, faults=lost))
    assert npu_smi.main(["info"]) == 1
    assert not parse_info(capsys.readouterr().out).ok


@pytest.mark.parametrize(("arguments", "code"), [(["-h"], 0), (["info", "-h"], 0), (["info", "-t"], 1), (["set"], 1)])
def test_usage(home: Home, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> None:
    """Help is exit 0; what is not emulated is refused with the usage, never made up."""
    del home
    assert npu_smi.main(arguments) == code
    assert "Usage: npu-smi info" in capsys.readouterr().out


def test_the_installed_program_works_from_anywhere(
    home: Home, tmp_path: Path, plain_environment: dict[str, str]
) -> None:
    """A foreign folder with packages of our names, and a foreign PYTHONPATH, do not disturb it."""
    for name in ("emulator.py", "npuq.py", "json.py"):
        (tmp_path / name).write_text("raise SystemExit(9)\n")
    done = subprocess.run(
        [home.root / "bin" / "npu-smi", "info"],
        cwd=tmp_path,
        env={**plain_environment, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [chip.device_id for chip in parse_info(done.stdout).chips] == [0, 1]
    assert done.stderr == ""
