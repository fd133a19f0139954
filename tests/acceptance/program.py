"""The command line as a person runs it: a process of its own, in a home of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npuq.config import Timing
from npuq.entry import INSTALLATION

#: Beats and ticks at a quarter: a cancel, a lost process and a picture come sooner.
TIMING = json.dumps(Timing().scaled(0.25).model_dump())


@dataclass(frozen=True, kw_only=True)
class Program:
    """`npuq` in one home."""

    home: Path

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
        if code is not None:
            assert process.returncode == code, f"npuq {' '.join(arguments)}: {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def json(self, *arguments: str, code: int | None = 0) -> Any:
        """Run a reading command and return what it says."""
        return json.loads(self(*arguments, "-o", "json", code=code).stdout)

    def pids(self) -> dict[str, int | None]:
        """Return role -> pid of the fleet's processes."""
        return {process["role"]: process["pid"] for process in self.json("status", code=None)["processes"]}
