"""The program's edges: what is imported, how errors end, what the exit codes are."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from cli import command_tree
from cli.main import exit_code_of, run
from npuq.entry import INSTALLATION
from npuq.errors import Blame, BrokerError, DatasetError, DeviceError, ErrorInfo, InvalidRequestError, NotFoundError

HEAVY = ("torch", "onnx", "onnxruntime", "numpy", "celery", "kombu", "sqlalchemy", "alembic", "pydantic", "cv2")
PROBE = f"""
import json, sys
from cli.main import run
code = run(sys.argv[1:])
print(code, json.dumps(sorted(set({HEAVY!r}) & set(sys.modules))))
"""


def _imported(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], cwd=INSTALLATION, capture_output=True, text=True, check=True
    )
    code, names = done.stdout.splitlines()[-1].split(" ", 1)
    assert code == "0"
    return set(json.loads(names))


def test_help_imports_nothing_heavy() -> None:
    """Help has to be there at once: none of the large libraries is imported for it."""
    assert _imported("--help") == set()


def test_reading_imports_no_more_than_the_database_needs(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What people type most does not pay for what migrates, computes or delivers."""
    monkeypatch.setenv("NPUQ_DATABASE_URL", sqlite_url)
    assert _imported("devices", "list", "-o", "json") <= {"pydantic", "sqlalchemy"}


@pytest.mark.parametrize("group", ["runs", "submit"])
def test_help_of_a_noun_imports_nothing_heavy(group: str) -> None:
    """Except what typer itself reads typed options with."""
    assert _imported(group, "--help") <= {"pydantic"}


def test_every_command_of_the_table_can_be_built() -> None:
    """A name in the table without its module would be found by a user first."""
    built = command_tree.LazyCommands(command_tree.TREE)
    for name, entry in command_tree.TREE.items():
        assert built[name].name == name
        if isinstance(entry, command_tree.Group):
            assert list(entry.verbs) == list(built[name].commands)  # type: ignore[union-attr]
            assert all(built[name].commands[verb].help for verb in entry.verbs)  # type: ignore[union-attr]


def test_every_module_is_named_as_its_command() -> None:
    """One command per file, and the file is where one looks for it."""
    for name, entry in command_tree.TREE.items():
        if isinstance(entry, command_tree.Command):
            assert entry.module == f"cli.{name}"
        else:
            assert [command.module for command in entry.verbs.values()] == [
                f"cli.{name}.{verb.replace('-', '_')}" for verb in entry.verbs
            ]


def test_an_unknown_command_is_answered_with_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    """A typing mistake costs one line, not a page of help."""
    assert run(["swepe"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Did you mean 'sweep'?" in said.err
    assert len(said.err.splitlines()) == 2


def test_a_word_that_an_option_does_not_take_is_answered_with_those_it_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In our words, not in those of the library that reads them."""
    assert run(["runs", "list", "-o", "yaml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: Invalid value for '-o' / '--output': 'yaml' is not one of 'table', 'json'")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequestError("x"), 2),
        (NotFoundError("x"), 2),
        (DatasetError("x"), 1),
        (BrokerError("x"), 3),
        (DeviceError("x"), 3),
    ],
)
def test_exit_codes_follow_the_blame(error: Exception, code: int) -> None:
    """1 and 2: the input; 3: nothing wrong with the input."""
    assert exit_code_of(error.info) == code  # type: ignore[attr-defined]


def _failing(monkeypatch: pytest.MonkeyPatch, failure: Callable[[], None]) -> None:
    monkeypatch.setattr(command_tree, "import_module", lambda _name: SimpleNamespace(command=failure))


def test_an_error_shows_its_sentence_and_the_last_lines_of_the_tool(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong comes first, the tool's own words below it, and never a traceback."""

    def fail() -> None:
        """Fail."""
        detail = "\n".join(f"line {number}" for number in range(50))
        info = ErrorInfo(code="x", blame=Blame.INPUT, message="ATC refused", retry=False, detail=detail)
        raise InvalidRequestError.from_info(info)

    _failing(monkeypatch, fail)
    run(["version"])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: ATC refused"
    assert lines[1] == "  | line 30"
    assert lines[-1] == "  | line 49"


@pytest.mark.parametrize("debug", ["", "1"])
def test_a_bug_shows_its_traceback_only_when_asked(
    debug: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """People get a sentence; NPUQ_DEBUG=1 gets the place."""

    def fail() -> None:
        """Fail."""
        raise ZeroDivisionError("boom")

    _failing(monkeypatch, fail)
    monkeypatch.setenv("NPUQ_DEBUG", debug)
    assert run(["version"]) == 3
    said = capsys.readouterr().err
    assert "ZeroDivisionError: boom" in said
    assert ("Traceback" in said) == (debug == "1")


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell expects of a program that Ctrl-C ended."""

    def interrupt() -> None:
        """Interrupt."""
        raise KeyboardInterrupt

    _failing(monkeypatch, interrupt)
    assert run(["version"]) == 130


def test_a_reader_that_goes_away_is_no_error() -> None:
    """`npuq ... | head -1` ends quietly."""
    program = f"{sys.executable} -m npuq config show | head -1"
    done = subprocess.run(
        ["sh", "-c", program], cwd=INSTALLATION, capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.stderr == ""
    assert done.stdout.startswith("SETTING")
