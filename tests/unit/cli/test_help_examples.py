"""Every command's help ends with examples, and what they show can be typed."""

import shlex
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import pytest

from cli.command_tree import TREE, Command, Group
from cli.main import program, run


def _commands(entries: Mapping[str, Command | Group], above: str = "npuq") -> Iterator[tuple[str, Command]]:
    for name, entry in entries.items():
        if isinstance(entry, Group):
            yield from _commands(entry.verbs, f"{above} {name}")
        else:
            yield f"{above} {name}", entry


COMMANDS = dict(_commands(TREE))


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_examples_of_itself(path: str) -> None:
    """One or two, short enough for a line of the help."""
    examples = import_module(COMMANDS[path].module).EXAMPLES
    assert 1 <= len(examples) <= 2
    assert all(f"{example} ".startswith(f"{path} ") for example in examples)
    assert max(len(example) for example in examples) <= 100


@pytest.mark.parametrize("path", COMMANDS)
def test_examples_can_be_typed(path: str) -> None:
    """Each option is there and takes what it is given: an example with a mistake is worse than none."""
    command: Any = program()
    for name in path.split()[1:]:
        command = command.commands[name]
    for example in import_module(COMMANDS[path].module).EXAMPLES:
        arguments = shlex.split(example)[len(path.split()) :]
        with command.make_context(path, arguments) as context:
            assert not context.args


def test_examples_are_the_end_of_the_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the eye lands in a terminal; each on a line of its own."""
    monkeypatch.setenv("COLUMNS", "120")
    assert run(["jobs", "list", "--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[-3:] == ["Examples:", "npuq jobs list --run @last", "npuq jobs list --state failed -o name"]
