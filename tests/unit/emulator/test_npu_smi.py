import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from emulator import npu_smi, npu_smi_tables
from emulator.fleet import Chip, Fault, FaultKind, Fleet
from emulator.home import Home
from emulator.install import FleetPlan, build_fleet
from emulator.npu_smi_layouts import Family, family_of
from emulator.occupancy import Occupant, claim
from worker.npu_smi import NpuSmiInfo, parse_info, parse_list, parse_map

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
    assert npu_smi_tables.render_info(Fleet(chips=(chip,), driver_version="23.0.0"), []) == ONE_CHIP


CARDS = [
    FleetPlan(cards=2),
    FleetPlan(cards=2, chips_per_card=2, npu_ids=(1, 4), memory_mb=44280),
    FleetPlan(cards=2, chip="310", chips_per_card=4, npu_ids=(215, 2048)),
    FleetPlan(cards=1, chip="310B4"),
    FleetPlan(cards=2, chip="910A", npu_ids=(1, 4)),
    FleetPlan(cards=2, chip="910B3"),
    FleetPlan(cards=2, chip="Ascend910", chips_per_card=2),
]
DRIVERS = ["20.2.0", "21.0.2", "21.0.4", "22.0.4", "23.0.0", "24.1.0-emulated", "25.5.1", "26.0.rc1"]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("plan", CARDS, ids=lambda plan: f"{plan.chip}x{plan.chips_per_card}")
def test_the_parser_reads_back_the_fleet(plan: FleetPlan, driver: str) -> None:
    """Npuq's own parser finds every chip with its numbers, in all three tables of every card and driver."""
    fleet = build_fleet(replace(plan, driver=driver))
    busy = fleet.chips[-1]
    holder = Occupant(logic_id=busy.logic_id, pid=70, start_ticks=1, name="python", memory_mb=100)
    info = parse_info(npu_smi_tables.render_info(fleet, [holder], {busy.logic_id}))
    extra = {chip.logic_id: 100 if chip is busy else 0 for chip in fleet.chips}
    assert [(chip.npu_id, chip.chip_id, chip.name, chip.bus_id) for chip in info.chips] == [
        (chip.npu_id, chip.chip_id, chip.name, None if chip.bus_id == "NA" else chip.bus_id) for chip in fleet.chips
    ]
    assert [
        (chip.hbm_used_mb, chip.hbm_total_mb) if chip.hbm_total_mb else (chip.memory_used_mb, chip.memory_total_mb)
        for chip in info.chips
    ] == [(chip.memory_idle_mb + extra[chip.logic_id], chip.memory_total_mb) for chip in fleet.chips]
    assert [chip.aicore_percent for chip in info.chips][:-1] == [0] * (len(fleet.chips) - 1)
    assert info.chips[-1].aicore_percent
    assert info.driver_version == driver
    _check_processes(fleet, info, has_table=int(driver.partition(".")[0]) >= 23)


def _check_processes(fleet: Fleet, info: NpuSmiInfo, *, has_table: bool) -> None:
    busy = fleet.chips[-1]
    assert [(process.npu_id, process.chip_id, process.pid, process.memory_mb) for process in info.processes] == (
        [(busy.npu_id, busy.chip_id, 70, 100)] if has_table else []
    )
    assert set(info.no_process_npus) == ({chip.npu_id for chip in fleet.chips} - {busy.npu_id} if has_table else set())


@pytest.mark.parametrize("plan", CARDS, ids=lambda plan: f"{plan.chip}x{plan.chips_per_card}")
def test_every_chip_has_its_numbers(plan: FleetPlan) -> None:
    """Logic ids come from the table where it has them, else from `-m`; A3 has physical ids in both."""
    fleet = build_fleet(plan)
    family = family_of(plan.chip)
    chips = parse_info(npu_smi_tables.render_info(fleet, [])).chips
    numbers = [chip.logic_id for chip in fleet.chips]
    assert [chip.device_id for chip in chips] == (numbers if family is Family.INFERENCE else [None] * len(numbers))
    assert [chip.phy_id for chip in chips] == (numbers if family is Family.A3 else [None] * len(numbers))
    rows = parse_map(npu_smi_tables.render_map(list(fleet.chips)))
    assert [(row.npu_id, row.chip_id, row.logic_id) for row in rows.map] == [
        (chip.npu_id, chip.chip_id, chip.logic_id) for chip in fleet.chips
    ]
    assert [row.phy_id for row in rows.physical] == (numbers if family is Family.A3 else [])
    assert rows.mcu_rows == plan.cards
    for driver in ("22.0.4", "25.5.1"):
        cards = parse_list(npu_smi_tables.render_list(list(fleet.chips), driver))
        assert cards.total_count == plan.cards
        assert {card.chip_count for card in cards.npus} == {plan.chips_per_card}


def test_holders_show_with_their_memory() -> None:
    """Uses of one process are one row, its name is cut to 15 characters, and the chip's memory rises."""
    fleet = build_fleet(FleetPlan(cards=2))
    holders = [
        Occupant(logic_id=1, pid=70, start_ticks=1, name="a_very_long_process", memory_mb=memory)
        for memory in (100, 50)
    ]
    info = parse_info(npu_smi_tables.render_info(fleet, holders))
    (process,) = info.processes
    assert (process.npu_id, process.pid, process.name, process.memory_mb) == (1, 70, "a_very_long_pro", 150)
    assert info.no_process_npus == (0,)
    assert info.chips[1].memory_used_mb == fleet.chips[1].memory_idle_mb + 150


def test_sick_and_lost_chips() -> None:
    """Alarm is shown, a lost chip is not."""
    faults = (Fault(device=0, kind=FaultKind.ALARM), Fault(device=1, kind=FaultKind.LOST))
    fleet = replace(build_fleet(FleetPlan(cards=3)), faults=faults)
    info = parse_info(npu_smi_tables.render_info(fleet, []))
    assert [(chip.device_id, chip.health) for chip in info.chips] == [(0, "Alarm"), (2, "OK")]


def test_a_leak_is_memory_without_a_process() -> None:
    """The chip's memory rises, and nobody is shown."""
    fleet = build_fleet(FleetPlan(cards=1))
    leaking = replace(fleet, faults=(Fault(device=0, kind=FaultKind.LEAK, memory_mb=3000),))
    info = parse_info(npu_smi_tables.render_info(leaking, []))
    assert info.chips[0].memory_used_mb == fleet.chips[0].memory_idle_mb + 3000
    assert info.no_process_npus == (0,)


def test_a_chip_that_executes_is_busy(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """AICore % is not zero while somebody holds the chip's execution, and zero after."""
    with home.locked("chip-1"):
        npu_smi.main(["info"])
    npu_smi.main(["info"])
    during, after = (parse_info(f"|{half}") for half in capsys.readouterr().out.split("| npu-smi")[1:])
    assert [bool(chip.aicore_percent) for chip in during.chips] == [False, True]
    assert [chip.aicore_percent for chip in after.chips] == [0, 0]


def test_a_process_shows_while_it_lives(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """This process is listed by its pid until it gives the memory back."""
    held = claim(home, home.fleet().chips[0], 200)
    assert npu_smi.main(["info"]) == 0
    (process,) = parse_info(capsys.readouterr().out).processes
    assert (process.pid, process.memory_mb) == (os.getpid(), 200)
    held.release()
    npu_smi.main(["info"])
    assert parse_info(capsys.readouterr().out).processes == ()


def test_without_a_driver_everything_fails(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """-8005, whatever is asked."""
    home.edit(lambda fleet: replace(fleet, faults=(Fault(device=None, kind=FaultKind.NO_DRIVER),)))
    for arguments in (["info"], ["info", "-m"], ["info", "-t", "board", "-i", "0"]):
        assert npu_smi.main(arguments) == 1
        assert capsys.readouterr().out == "dcmi module initialize failed. ret is -8005\n"


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
