"""An empty home: every command says what to do, and none makes half a fleet."""

import sys
from pathlib import Path

import pytest

from npuq.outbox import Outbox
from tests.services.world import run_spec
from tests.unit.cli.answers import Npuq


@pytest.mark.parametrize(
    "command", [("runs", "list"), ("devices", "list"), ("watch",), ("jobs", "list"), ("results", "list"), ("why",)]
)
@pytest.mark.parametrize("left_over", ["", "npuq.sqlite3"])
def test_a_home_without_a_fleet_is_sent_to_up(
    command: tuple[str, ...], left_over: str, npuq: Npuq, tmp_path: Path
) -> None:
    """Also when an empty file lies where the database would be; and nobody makes one."""
    if left_over:
        (tmp_path / left_over).touch()
    answer = npuq(*command)
    assert answer.code == 3
    assert "npuq up" in answer.err
    assert "db upgrade" not in answer.err
    assert (tmp_path / "npuq.sqlite3").exists() == bool(left_over)


def test_a_submission_to_no_fleet_makes_no_database(npuq: Npuq, tmp_path: Path) -> None:
    """Looking whether it has arrived must not hide that there is nowhere to arrive."""
    Outbox(tmp_path / "outbox").put(run_spec())
    answer = npuq("devices", "list")
    assert answer.code == 3
    assert "npuq up" in answer.err
    assert not (tmp_path / "npuq.sqlite3").exists()


def test_a_database_of_ones_own_is_upgraded_by_hand(
    npuq: Npuq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`npuq up` must not touch what was configured elsewhere."""
    monkeypatch.setenv("NPUQ_DATABASE_URL", f"sqlite:///{tmp_path / 'own.sqlite3'}")
    for _ in ("missing", "empty"):
        answer = npuq("runs", "list")
        assert answer.code == 3
        assert "npuq db upgrade" in answer.err
        (tmp_path / "own.sqlite3").touch()


def test_status_of_an_empty_home_says_that_there_is_no_fleet(npuq: Npuq) -> None:
    """As a fact among the others, with the exit code for a fleet that is away."""
    answer = npuq("status")
    assert answer.code == 3
    assert "npuq up" in answer.out


def test_a_demo_on_an_installation_for_submitting_says_what_to_install(
    npuq: Npuq, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The help's first advice is to try it, and a laptop's installation has no numpy."""
    monkeypatch.setitem(sys.modules, "numpy", None)
    for name in [name for name in sys.modules if name.startswith("tasks.demo_")]:
        monkeypatch.delitem(sys.modules, name)
    answer = npuq("demo")
    assert answer.code == 3
    assert "pip install 'npuq[worker,export,embedded]'" in answer.err
