"""What npuq tells people to type works in the shell they called it from."""

import subprocess
import sys
from pathlib import Path

import pytest

from cli import invocation
from cli.invocation import as_called, called_as, given_home
from npuq.entry import INSTALLATION


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return an npuq in a virtual environment of its own, below the current folder."""
    path = tmp_path / ".venv" / "bin" / "npuq"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_program_on_path_has_its_short_name(program: Path) -> None:
    """However it was called."""
    assert called_as(str(program), {"PATH": f"/nowhere:{program.parent}"}) == "npuq"


def test_a_program_beside_path_is_called_as_it_was_typed(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short below the current folder; also when the shell would find another npuq."""
    monkeypatch.chdir(program.parents[2])
    assert called_as(".venv/bin/npuq", {"PATH": "/nowhere"}) == ".venv/bin/npuq"
    assert called_as(str(program), {}) == ".venv/bin/npuq"
    other = program.parents[2] / "other"
    other.mkdir()
    (other / "npuq").write_text("#!/bin/sh\n")
    (other / "npuq").chmod(0o755)
    monkeypatch.chdir(other)
    assert called_as(str(program), {"PATH": str(other)}) == str(program)


def test_whatever_else_started_us_keeps_the_plain_name() -> None:
    """A test, a library."""
    assert called_as("/usr/bin/pytest", {"PATH": "/nowhere"}) == "npuq"
    assert called_as("", {}) == "npuq"


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("see: npuq runs list, npuq jobs list", "see: P runs list, P jobs list"),
        ("Come back with: npuq --home /x watch r1", "Come back with: P --home /x watch r1"),
        ("`npuq retry` uses the one", "`P retry` uses the one"),
        ("is not the one this npuq works on", "is not the one this npuq works on"),
        ("run by the next npuq command", "run by the next npuq command"),
        ("/opt/npuq up is a folder", "/opt/npuq up is a folder"),
        ("install npuq with its extras", "install npuq with its extras"),
    ],
)
def test_only_commands_are_spelled_out(sentence: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere npuq is a name."""
    monkeypatch.setattr(invocation, "called_as", lambda _argument, _environment: "P")
    assert as_called(sentence) == expected


def test_spelling_out_twice_is_spelling_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence may pass two writers."""
    for called in ("/usr/bin/python3 -m npuq", ".venv/bin/npuq"):
        monkeypatch.setattr(invocation, "called_as", lambda _argument, _environment, called=called: called)
        assert as_called(as_called("see: npuq status")) == f"see: {called} status"


def test_another_home_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain command would look elsewhere; a sentence that names a home keeps it."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/other", "--home", "/my fleet", "up"])
    assert as_called("next: npuq status; or npuq --home /x down") == (
        "next: npuq --home '/my fleet' status; or npuq --home /x down"
    )
    once = as_called("see: npuq status")
    assert as_called(once) == once


@pytest.mark.parametrize(
    ("arguments", "home"),
    [
        (["--home=/a", "status"], "/a"),
        (["--version", "--home", "/a"], "/a"),
        (["status"], None),
        (["emulator", "show", "--home", "/a"], None),
        (["--home"], None),
        ([], None),
    ],
)
def test_the_home_is_read_before_the_command(arguments: list[str], home: str | None) -> None:
    """What comes after the command is the command's own."""
    assert given_home(arguments) == home


def test_an_error_names_a_program_that_can_be_typed(tmp_path: Path) -> None:
    """Through a real process that is not on PATH: what is told after `with:` runs."""
    program = Path(sys.executable).parent / "npuq"
    environment = {"NPUQ_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(INSTALLATION)}
    done = subprocess.run([program, "runs", "list"], cwd=tmp_path, env=environment, capture_output=True, text=True)  # noqa: PLW1510
    assert done.returncode == 3
    assert f"start one with: {program} up" in done.stderr
