"""What the `npuq emulator` commands share: which emulated fleet is meant, and the program that edits it."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from cli.fleet import emulated
from cli.session import settings_of
from npuq.errors import NotFoundError

if TYPE_CHECKING:
    import subprocess

#: What the emulated tools themselves read; `npuq up` sets it for its workers.
VARIABLE: Final = "NPUQ_EMULATOR_HOME"
HOST: Final = "host"
_DEVICE_ID: Final = re.compile(r".+\.npu(\d+)\.(\d+)")


def emulator_home(ctx: typer.Context) -> Path:
    """Return the home of the emulated fleet: of `--home`, else what the tools would use here, else of NPUQ_HOME."""
    source = ctx.find_root().get_parameter_source("home")
    told = os.environ.get(VARIABLE)
    if told and (source is None or source.name != "COMMANDLINE"):
        return Path(told)
    return emulated.home_of(settings_of(ctx))


def run(ctx: typer.Context, arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run the emulator's program on the fleet that is there.

    Raises:
        NotFoundError: there is none.
        InvalidRequestError: the program refuses.
    """
    home = emulator_home(ctx)
    if not emulated.is_installed(home):
        raise NotFoundError(
            f"there is no emulated fleet in {home}; make one with: npuq up --emulate 2, or npuq emulator install"
        )
    return emulated.run_emulator(home, arguments)


def read_fleet(ctx: typer.Context) -> dict[str, Any]:
    """Return what the fleet file says, as the emulator reads it; raises as `run` does."""
    fleet: dict[str, Any] = json.loads(run(ctx, ["show", "--json"]).stdout)
    return fleet


def place(ctx: typer.Context, text: str) -> str:
    """Return how the emulator calls a place: a logic id or `host`; people may give a device id of npuq too.

    Raises:
        NotFoundError: no emulated chip has this device id.
    """
    found = _DEVICE_ID.fullmatch(text)
    if found is None:
        return text
    npu_id, chip_id = map(int, found.groups())
    for chip in read_fleet(ctx)["chips"]:
        if (chip["npu_id"], chip["chip_id"]) == (npu_id, chip_id):
            return str(chip["logic_id"])
    raise NotFoundError(f"{text} is no emulated chip; see: npuq emulator show")
