"""`npuq`, each command a process of its own, forked from one that has imported the program and done nothing else.

Most of what a short command costs is Python's imports, and tests of a fleet give hundreds of commands. Tests of the
command line itself start it as a person does, see `tests.acceptance.program`.
"""

import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import db
from npuq.entry import INSTALLATION, search_garbage_seldom

CLOSED_WITHIN_SECONDS: Final = 10.0
_PACKAGES: Final = ("npuq", "cli", "report")
_OF_OTHERS: Final = ("celery.app.amqp", "celery.app.base", "kombu.transport.redis")  #: that a submission needs
_NO_MODULES: Final = {"npuq.__main__", "db.migrations"}  #: programs


class WarmNpuq:
    """Runs commands, one after the other, in one environment.

    Args:
        environment: of every command, whole.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._server: subprocess.Popen[str] | None = None

    def __call__(self, arguments: Sequence[str], limit_seconds: float) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, in the root folder; raises TimeoutExpired when it had to be killed."""
        with tempfile.TemporaryDirectory(prefix="npuq-said-") as folder:
            said = [Path(folder) / name for name in ("stdout", "stderr")]
            order = {"arguments": list(arguments), "said": [str(path) for path in said], "limit_seconds": limit_seconds}
            try:
                code = self._ask(json.dumps(order))
            except BaseException:
                self.close()  # its answer may still come, and must not be taken for the next command's
                raise
            out, err = (path.read_text("utf-8") for path in said)
        if code is None:
            raise subprocess.TimeoutExpired(["npuq", *arguments], limit_seconds, out, err)
        return subprocess.CompletedProcess(["npuq", *arguments], code, out, err)

    def _ask(self, order: str) -> int | None:
        self._server = self._server or self._start()
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(f"{order}\n")
        self._server.stdin.flush()
        code: int | None = json.loads(self._server.stdout.readline())
        return code

    def _start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "tests.fleet.warm_npuq"],
            cwd=INSTALLATION,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End it; between commands it has nothing to lose."""
        if self._server is None:
            return
        with self._server as server:
            self._server = None
            server.terminate()
            server.wait(CLOSED_WITHIN_SECONDS)


def _import_all() -> None:
    """Import what commands import, at once or when they come to it."""
    found = list(pkgutil.iter_modules(db.__path__, "db."))
    for package in map(importlib.import_module, _PACKAGES):
        found += pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    for name in (*_OF_OTHERS, *(module.name for module in found)):
        if name not in _NO_MODULES:
            importlib.import_module(name)


def _serve() -> int:
    """Run the commands that stand on stdin, a line each, and say each one's exit code, null when it was killed."""
    _import_all()
    search_garbage_seldom()
    gc.collect()
    gc.freeze()  # the commands' own searches for garbage would copy all that memory
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            return _command(order["arguments"], order["said"])
        sys.stdout.write(json.dumps(_code(child, order["limit_seconds"])) + "\n")
        sys.stdout.flush()
    return 0


def _command(arguments: Sequence[str], said: Sequence[str]) -> int:
    """Be the command: Python ends after it as after any program."""
    from cli.main import run

    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    for stream, path in zip((sys.stdout, sys.stderr), said, strict=True):
        with Path(path).open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    sys.argv = [str(Path(sys.executable).parent / "npuq"), *arguments]
    os.chdir("/")
    try:
        return run()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - the server's loop must not go on in two processes
        traceback.print_exc()
        return 1


def _code(child: int, limit_seconds: float) -> int | None:
    """Wait for a child; returns its exit code as `subprocess` has it, None when it was killed after the limit."""
    handle = os.pidfd_open(child)
    try:
        ended, _, _ = select.select([handle], [], [], limit_seconds)
        if not ended:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(handle)
    return os.waitstatus_to_exitcode(status) if ended else None


if __name__ == "__main__":
    sys.exit(_serve())
