"""`npuq emulator`: which emulated fleet is meant, and that its options are those of the emulator's own program."""

import subprocess
from pathlib import Path
from typing import get_type_hints

import pytest

from cli import command_tree
from cli.emulator import fault
from cli.emulator.fault import FaultKind
from cli.fleet import emulated
from emulator import __main__ as program
from emulator import fleet
from emulator.home import Home
from emulator.install import FleetPlan, install
from tests.unit.cli.answers import Npuq
from worker.emulated_tools import has_emulated_chips


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return an emulated fleet where `npuq up --emulate` would put it."""
    return install(tmp_path / "emulator", FleetPlan(cards=2, chips_per_card=2))


def test_a_fault_is_put_and_taken_away(npuq: Npuq, home: Home) -> None:
    """By logic id, by npuq's id of the chip, or on the host; in the fleet of NPUQ_HOME."""
    assert npuq("emulator", "fault", "0", "slow", "--factor", "5", "--count", "2").code == 0
    assert npuq("emulator", "fault", "h1.npu1.1", "hang").code == 0
    assert npuq("emulator", "fault", "host", "atc_failed", "--text", "EZ3003: No").code == 0
    kinds = {(fault.device, fault.kind, fault.count) for fault in home.fleet().faults}
    assert kinds == {(0, "slow", 2), (3, "hang", None), (None, "atc_failed", None)}
    assert "slow 2 more times" in npuq("emulator", "show").out
    assert npuq("emulator", "clear", "h1.npu1.1").err == "no faults on h1.npu1.1\n"
    assert {fault.device for fault in home.fleet().faults} == {0, None}
    npuq("emulator", "clear")
    assert home.fleet().faults == ()


def test_the_home_of_the_command_line_goes_first(
    npuq: Npuq, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then what the tools would use, then NPUQ_HOME's; each is another fleet."""
    other = install(tmp_path / "other", FleetPlan(cards=1))
    monkeypatch.setenv("NPUQ_EMULATOR_HOME", str(other.root))
    assert npuq("emulator", "show", "-o", "name").out == "0\nhost\n"
    flag = ("--home", str(home.root.parent))
    assert npuq(*flag, "emulator", "show", "-o", "name").out == "0\n1\n2\n3\nhost\n"
    assert npuq("--home", str(tmp_path / "third"), "emulator", "install", "--cards", "3").code == 0
    assert len(Home(tmp_path / "third" / "emulator").fleet().chips) == 3


def test_the_printed_lines_make_emulated_cards_that_are_known_as_such(npuq: Npuq, tmp_path: Path) -> None:
    """A person who types them gets what `npuq up --emulate` sets, whatever the folder is called."""
    told = npuq("--home", str(tmp_path / "my fleet"), "emulator", "install", "--cards", "1").out
    surroundings = {"PATH": "/usr/bin:/bin", "PYTHONPATH": "/mine"}
    script = f"{told}env -0"
    printed = subprocess.run(["/bin/sh", "-euc", script], env=surroundings, check=True, capture_output=True, text=True)
    typed = dict(line.split("=", 1) for line in printed.stdout.split("\0") if line)
    wanted = emulated.environment(tmp_path / "my fleet" / "emulator", surroundings)
    assert {name: typed[name] for name in wanted} == wanted
    assert has_emulated_chips(typed)
    assert has_emulated_chips({name: value for name, value in typed.items() if name != "NPUQ_EMULATOR_HOME"})


def test_what_is_wrong_is_a_sentence(npuq: Npuq, home: Home, tmp_path: Path) -> None:
    """No fleet, no such chip, a fault of the host on a chip: never a usage page of another program."""
    missing = npuq("--home", str(tmp_path / "none"), "emulator", "show")
    assert (missing.code, "npuq up --emulate 2" in missing.err) == (2, True)
    for arguments in (("9", "hang"), ("h1.npu7.0", "hang"), ("0", "no_driver"), ("0", "alarm", "--health", "Fine")):
        answer = npuq("emulator", "fault", *arguments)
        assert answer.code == 2
        assert len(answer.err.splitlines()) == 1
    assert home.fleet().faults == ()


@pytest.mark.parametrize(
    "arguments",
    [
        *(("0", "slow", f"--factor={value}") for value in ("-3", "0.5", "nan", "inf")),
        *(("host", "atc_slow", f"--seconds={value}") for value in ("-4", "nan", "1e300")),
        *(("host", "atc_killed", f"--signal={value}") for value in ("0", "999", "17", "19", "32")),
        *(("0", "leak", "--memory-mb=0"), ("0", "hang", "--count=0"), ("host", "atc_failed", "--text= ")),
    ],
)
def test_impossible_faults_are_refused(npuq: Npuq, home: Home, arguments: tuple[str, ...]) -> None:
    """A number that would have no effect, or end the tool with a traceback; what is wrong with it is said."""
    answer = npuq("emulator", "fault", *arguments)
    assert (answer.code, home.fleet().faults) == (2, ())
    assert arguments[2].removeprefix("--").partition("=")[0].replace("-", "_") in answer.err.replace("-", "_")


def test_an_impossible_model_of_time_is_refused(npuq: Npuq, tmp_path: Path) -> None:
    """A service time is no less than nothing."""
    answer = npuq("emulator", "install", "--cards", "1", "--timed", "--service-ms=nan")
    assert (answer.code, "base_ms nan is not between" in answer.err) == (2, True)
    assert not (tmp_path / "emulator").exists()


def test_ranges_of_faults_are_the_emulators() -> None:
    """The command line says the same bounds."""
    hints = get_type_hints(fault.command, include_extras=True)
    options = {name: hints[name].__metadata__[0] for name in fleet.FAULT_RANGES}
    assert {name: (option.min, option.max) for name, option in options.items()} == fleet.FAULT_RANGES


def test_kinds_of_faults_are_the_emulators() -> None:
    """The command line may not import it."""
    assert list(map(str, FaultKind)) == list(map(str, fleet.FaultKind))


@pytest.mark.parametrize("verb", ["install", "fault"])
def test_options_and_defaults_are_the_emulators(verb: str) -> None:
    """A default that only one of them knows would be a lie in the other's help."""
    parser = program._parser()
    positional = {"install": ["--cards", "1"], "fault": ["0", "hang"]}[verb]
    theirs = vars(parser.parse_args([verb, "--home", "/h", *positional]))
    group = command_tree.LazyCommands(command_tree.TREE)["emulator"]
    ours = {parameter.name: parameter.default for parameter in group.commands[verb].params}  # type: ignore[union-attr]
    assert set(theirs) - {"command", "home"} == set(ours)
    known = {name for name, default in ours.items() if default is not None and name not in {"cards", "device", "kind"}}
    assert {name: theirs[name] for name in known} == {name: ours[name] for name in known}
