"""Emulated cards for this machine's fleet.

Written by the emulator's own program and found through the environment, as the real tools are; nothing here imports
the emulator.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from npuq.errors import InvalidRequestError
from worker.interpreter import program_command

if TYPE_CHECKING:
    from npuq.config import Settings

PROGRAM_TIMEOUT_SECONDS: Final = 60


@dataclass(frozen=True, kw_only=True)
class Emulation:
    """What to emulate.

    Attributes:
        cards: number of cards with one chip each.
        chip: npu-smi Name, for example `310P3`.
        timed: answer after a modelled time instead of computing.
    """

    cards: int
    chip: str = "310P3"
    timed: bool = False

    def describe(self) -> str:
        """Return it in words."""
        return f"{self.cards} emulated Ascend{self.chip}{', timed' if self.timed else ''}"


def install(home: Path, emulation: Emulation) -> None:
    """Write the emulator's home; one that fits is kept, with the faults that somebody put there.

    Raises:
        InvalidRequestError: the emulator refuses, in its own words.
    """
    command = ["install", "--cards", str(emulation.cards), "--chip", emulation.chip]
    if emulation.timed:
        command.append("--timed")
    if _installed(home) not in {None, _shape(emulation)}:
        command.append("--force")
    run_emulator(home, command)


def run_emulator(home: Path, arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run the emulator's own program, which nothing of npuq imports, on a home; returns what it said.

    Raises:
        InvalidRequestError: it refuses, in its own words.
    """
    verb, *others = arguments
    done = subprocess.run(
        [*program_command("emulator.__main__"), verb, "--home", str(home), *others],
        capture_output=True,
        text=True,
        check=False,
        timeout=PROGRAM_TIMEOUT_SECONDS,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        said = lines[-1] if lines else f"no reason given, exit code {done.returncode}"
        _, usage, reason = said.partition(": error: ")
        raise InvalidRequestError(f"the emulator refuses: {reason if usage else said}")
    return done


def home_of(settings: "Settings") -> Path:
    """Return the emulator's home of the fleet that lives in NPUQ_HOME."""
    return settings.home / "emulator"


def is_installed(home: Path) -> bool:
    """Tell whether an emulated fleet is there, whatever its shape."""
    return (home / "fleet.json").is_file()


def _shape(emulation: Emulation) -> tuple[tuple[str, ...], str]:
    return (emulation.chip,) * emulation.cards, "timed" if emulation.timed else "computed"


def _installed(home: Path) -> tuple[tuple[str, ...], str] | None:
    """Return chips and mode of the emulated fleet that is there; None when there is none that can be read."""
    try:
        fleet: dict[str, Any] = json.loads((home / "fleet.json").read_text("utf-8"))
        return tuple(chip["name"] for chip in fleet["chips"]), fleet["mode"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def environment(home: Path, surroundings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which the emulated tools are found before any others."""

    def before(folder: Path, variable: str) -> str:
        rest = surroundings.get(variable)
        return f"{folder}{os.pathsep}{rest}" if rest else str(folder)

    return {
        **surroundings,
        "PATH": before(home / "bin", "PATH"),
        "PYTHONPATH": before(home / "python", "PYTHONPATH"),
        "ASCEND_TOOLKIT_HOME": str(home / "toolkit"),
        "NPUQ_EMULATOR_HOME": str(home),
    }
