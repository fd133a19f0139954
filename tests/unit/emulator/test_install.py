import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from emulator.__main__ import describe, main
from emulator.fleet import Fault, FaultKind, FleetFileError, Mode
from emulator.home import Home
from emulator.install import FleetPlan, build_fleet, install


def test_a_home_has_what_is_found_on_the_paths(tmp_path: Path) -> None:
    """Programs are executable, and CANN's version can be read as on a real host."""
    root = install(tmp_path, FleetPlan(cards=1)).root
    for program in ("npu-smi", "atc"):
        assert (root / "bin" / program).stat().st_mode & 0o111
    (info,) = root.glob("toolkit/*-linux/ascend_toolkit_install.info")
    assert "version=8.0.0-emulated" in info.read_text().splitlines()
    assert (root / "toolkit/compiler/version.info").read_text() == "Version=8.0.0-emulated\n"


def test_the_wheel_of_aclruntime_has_a_version(tmp_path: Path) -> None:
    """Programs ask the module's distribution before they import it."""
    root = install(tmp_path, FleetPlan(cards=1)).root
    (found,) = distributions(name="aclruntime", path=[str(root / "python")])
    assert found.version == "0.0.2"


def test_installing_again_keeps_the_fleet_unless_forced(tmp_path: Path) -> None:
    """Faults put by a test survive a second `install`."""
    arguments = ["install", "--home", str(tmp_path), "--cards", "2"]
    assert main(arguments) == 0
    assert main(["fault", "--home", str(tmp_path), "1", "slow", "--factor", "3", "--count", "4"]) == 0
    assert main([*arguments, "--timed"]) == 0
    kept = Home(tmp_path).fleet()
    assert kept.faults == (Fault(device=1, kind=FaultKind.SLOW, count=4, factor=3.0),)
    assert kept.mode is Mode.COMPUTED
    assert main([*arguments, "--timed", "--service-ms", "7", "--force"]) == 0
    fresh = Home(tmp_path).fleet()
    assert (fresh.mode, fresh.faults, fresh.service_time.base_ms) == (Mode.TIMED, (), 7.0)


def test_faults_are_put_and_cleared_by_chip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`clear 0` leaves chip 1 sick, `clear` heals all; a fault put twice is there once."""
    at = ["--home", str(tmp_path)]
    main(["install", *at, "--cards", "2"])
    for device in ("0", "1", "1"):
        main(["fault", *at, device, "alarm"])
    main(["clear", *at, "0"])
    assert [fault.device for fault in Home(tmp_path).fleet().faults] == [1]
    capsys.readouterr()
    main(["show", *at])
    assert "fault on 1: alarm, until cleared" in capsys.readouterr().out
    main(["clear", *at])
    assert Home(tmp_path).fleet().faults == ()


def test_a_fault_needs_a_chip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong number is refused in a sentence, exit code 1."""
    main(["install", "--home", str(tmp_path), "--cards", "1"])
    assert main(["fault", "--home", str(tmp_path), "5", "hang"]) == 1
    assert "no chip has logic id 5" in capsys.readouterr().err


def test_cards_with_several_chips(tmp_path: Path) -> None:
    """Logic ids run over all chips; a Duo's chips share their bus id, those of a 300I do not."""
    del tmp_path
    duo = build_fleet(FleetPlan(cards=2, chips_per_card=2, npu_ids=(1, 2), memory_mb=44280))
    assert [(chip.npu_id, chip.chip_id, chip.logic_id) for chip in duo.chips] == [
        (1, 0, 0),
        (1, 1, 1),
        (2, 0, 2),
        (2, 1, 3),
    ]
    assert len({chip.bus_id for chip in duo.chips}) == 2
    assert {chip.memory_total_mb for chip in duo.chips} == {44280}
    four = build_fleet(FleetPlan(cards=1, chip="310", chips_per_card=4))
    assert len({chip.bus_id for chip in four.chips}) == 4
    assert four.chips[0].soc_version == "Ascend310"


@pytest.mark.parametrize(
    "plan",
    [
        FleetPlan(cards=1, chip="310P9"),
        FleetPlan(cards=0),
        FleetPlan(cards=2, npu_ids=(1,)),
        FleetPlan(cards=2, npu_ids=(1, 1)),
    ],
)
def test_impossible_fleets_are_refused(plan: FleetPlan) -> None:
    """Nothing is guessed."""
    with pytest.raises(FleetFileError):
        build_fleet(plan)


def test_help_needs_no_home() -> None:
    """The program explains itself, fast and without numpy."""
    script = "import sys; from emulator.__main__ import _parser; print('numpy' in sys.modules, _parser().format_help())"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.startswith("False")
    assert "install" in printed


def test_faults_of_the_host_are_put_and_cleared_by_name(home: Home) -> None:
    """`host` stands where the logic id would, and a chip's kind is refused there."""
    at = ["--home", str(home.root)]
    assert main(["fault", "host", "atc_failed", "--text", "EZ3003: x", *at]) == 0
    assert main(["fault", "host", "hang", *at]) == 1
    assert main(["fault", "1", "alarm", "--health", "Critical", *at]) == 0
    fleet = home.fleet()
    assert [(fault.device, fault.kind) for fault in fleet.faults] == [(None, "atc_failed"), (1, "alarm")]
    assert (fleet.faults[0].text, fleet.faults[1].health) == ("EZ3003: x", "Critical")
    assert "fault on host: atc_failed" in describe(fleet)
    assert main(["clear", "host", *at]) == 0
    assert [fault.device for fault in home.fleet().faults] == [1]
