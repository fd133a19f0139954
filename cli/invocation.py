"""How this program was called, so that what it tells people to type works when they copy it.

Every sentence of npuq says `npuq status` and the like. After `make install` the program is `.venv/bin/npuq`, and a
shell that does not have it on PATH would answer "command not found"; after `npuq --home DIR up`, a plain `npuq status`
would look elsewhere. Whoever writes such a sentence to a person passes it through `as_called`.
"""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cli.command_tree import TREE

PROGRAM: Final = "npuq"


#: The program's name before one of its commands or `--home` (elsewhere it is only a name), not yet spelled out.
_COMMAND: Final = re.compile(rf"(?<![\w/.-])(?<!-m ){PROGRAM} (?=(?:--home|--help|{'|'.join(TREE)})\b)")


def as_called(text: str) -> str:
    """Return a sentence for people with every `npuq COMMAND` spelled as this process's program was called."""
    called = called_as(sys.argv[0], os.environ)
    home = given_home(sys.argv[1:])

    def spelled(found: re.Match[str]) -> str:
        there = text.startswith("--home", found.end())
        return f"{called} " if home is None or there else f"{called} --home {shlex.quote(home)} "

    return text if (called, home) == (PROGRAM, None) else _COMMAND.sub(spelled, text)


def given_home(arguments: Sequence[str]) -> str | None:
    """Return the DIR of `--home DIR` or `--home=DIR` before the command; None when it is not there."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--home":
            return value if equals else next(iter(arguments[index + 1 :]), None)
        if not argument.startswith("-"):
            break
    return None


def called_as(argument: str, environment: Mapping[str, str]) -> str:
    """Return what to type for this program.

    Args:
        argument: what the process was started as, `sys.argv[0]`.
        environment: where PATH is.

    Returns:
        `npuq` where the shell finds this very program by that name, otherwise the path that was typed; for
        `python -m npuq` the interpreter with it. Whatever else started us (a test, a library) is called `npuq`.
    """
    path = Path(argument)
    if path.name == "__main__.py" and path.parent.name == PROGRAM:
        return f"{_short(Path(sys.executable))} -m {PROGRAM}"
    if path.name != PROGRAM or not path.is_file():
        return PROGRAM
    found = shutil.which(PROGRAM, path=environment.get("PATH", ""))
    return PROGRAM if found is not None and path.samefile(found) else _short(path)


def _short(path: Path) -> str:
    """Return a path as one types it here: below the current folder, without the folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
