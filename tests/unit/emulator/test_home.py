import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from emulator.fleet import Fault, FaultKind, Fleet, FleetFileError
from emulator.home import ENVIRONMENT_VARIABLE, Home


def _with_fault(fleet: Fleet, fault: Fault) -> Fleet:
    return replace(fleet, faults=(*fleet.faults, fault))


def test_an_edited_file_counts_at_once(home: Home) -> None:
    """A person's edit is seen by a program that already read the file."""
    home.fleet()
    document = json.loads(home.fleet_path.read_text())
    document["faults"] = [{"device": 1, "kind": "alarm"}]
    home.fleet_path.write_text(json.dumps(document))
    assert home.fleet().fault(1, FaultKind.ALARM) is not None


def test_an_unchanged_file_is_not_read_again(home: Home) -> None:
    """The same object comes back while the file's stamp is the same."""
    assert home.fleet() is home.fleet()


def test_a_counted_fault_strikes_so_often_and_no_more(home: Home) -> None:
    """Many callers at once use up exactly the count; each has its own view, as processes have."""
    home.edit(lambda fleet: _with_fault(fleet, Fault(device=0, kind=FaultKind.OOM, count=5)))
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: Home(home.root).take_fault(0, FaultKind.OOM), range(20)))
    assert sum(fault is not None for fault in taken) == 5
    assert home.fleet().faults == ()


def test_a_fault_strikes_its_own_chip_only(home: Home) -> None:
    """Kind and chip both have to match."""
    home.edit(lambda fleet: _with_fault(fleet, Fault(device=1, kind=FaultKind.HANG)))
    assert home.take_fault(0, FaultKind.HANG) is None
    assert home.take_fault(1, FaultKind.OOM) is None
    assert home.take_fault(1, FaultKind.HANG) is not None


def test_damaged_file_names_file_and_remedy(home: Home) -> None:
    """The sentence says which file and what to run."""
    home.fleet_path.write_text("{")
    with pytest.raises(FleetFileError, match="emulator install"):
        home.fleet()


def test_missing_environment_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Running the module by hand tells about HOME/bin."""
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    with pytest.raises(FleetFileError, match="HOME/bin"):
        Home.from_environment()


def test_lock_is_free_after_its_block(home: Home) -> None:
    """Taking the same lock twice in a row does not block."""
    for _ in range(2):
        with home.locked("chip-0"):
            assert (home.root / "locks" / "chip-0.lock").exists()


def test_relative_homes_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later change of folder does not move the home."""
    monkeypatch.chdir(tmp_path)
    assert Home(Path("here")).root == Path(os.fspath(tmp_path)) / "here"
