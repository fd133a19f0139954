"""The command line as a person runs it: a process of its own, in a home of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from npuq.config import Timing
from npuq.entry import INSTALLATION
from tests.fleet.warm_npuq import WarmNpuq

#: Beats and ticks at a quarter: a cancel, a lost process and a picture come sooner.
LIMIT_SECONDS: Final = 300.0
TIMING: Final = json.dumps(Timing().scaled(0.25).model_dump())


@dataclass(frozen=True, kw_only=True)
class Program:
    """`npuq` in one home.

    Attributes:
        home: where.
        warm: what runs commands that are only read; None: they are started as a person does, like all others.
    """

    home: Path
    warm: WarmNpuq | None = None

    @contextmanager
    def warmed(self) -> Iterator["Program"]:
        """Read without the imports of every command: for tests that look many times."""
        with closing(WarmNpuq(self.environment)) as warm:
            yield replace(self, warm=warm)

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of its processes."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("NPUQ_")}
        return {**clean, "NPUQ_HOME": str(self.home), "NPUQ_TIMING": TIMING}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command; the caller waits for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "npuq", *arguments],
            cwd=INSTALLATION,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, code: int | None = 0) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end; `code` is what it must exit with, None: anything."""
        with self.start(*arguments) as process:
            out, err = process.communicate()
        return _ended(subprocess.CompletedProcess(arguments, process.returncode, out, err), code)

    def json(self, *arguments: str, code: int | None = 0) -> Any:
        """Run a reading command and return what it says."""
        command = (*arguments, "-o", "json")
        done = self(*command, code=code) if self.warm is None else _ended(self.warm(command, LIMIT_SECONDS), code)
        return json.loads(done.stdout)

    def pids(self) -> dict[str, int | None]:
        """Return role -> pid of the fleet's processes."""
        return {process["role"]: process["pid"] for process in self.json("status", code=None)["processes"]}


def _ended(done: "subprocess.CompletedProcess[str]", code: int | None) -> "subprocess.CompletedProcess[str]":
    """Return it; an assertion says what it printed when it ended in another way."""
    if code is not None:
        said = f"npuq {' '.join(map(str, done.args))}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == code, said
    return done
