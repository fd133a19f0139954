"""`npuq emulator ...`: passed on as it is to `python -m emulator`, which nothing of npuq imports."""

import subprocess
import sys

import typer

from npuq.entry import INSTALLATION


def command(ctx: typer.Context) -> int:
    """Install and edit an emulated Ascend fleet: python -m emulator."""
    program = [sys.executable, "-P", "-c", _RUN, str(INSTALLATION), *ctx.args]
    return subprocess.run(program, check=False).returncode


_RUN = """\
import sys
sys.path.insert(0, sys.argv.pop(1))
from runpy import run_module
sys.argv[0] = "npuq emulator"
run_module("emulator", run_name="__main__", alter_sys=True)
"""
