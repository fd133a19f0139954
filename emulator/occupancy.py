"""Who holds memory of which chip: one small file per use, in the home's `processes` folder.

A record counts only while its process lives (same pid, same start time, not a zombie), as the driver frees the memory
of a process that died. Standard library only.
"""

import itertools
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Self

from emulator.fleet import Chip, FaultKind, Fleet
from emulator.home import Home

_SERIAL: Final = itertools.count()
_STATE_FIELD, _START_FIELD = 0, 19  # of /proc/PID/stat, counted after the command name


class DeviceMemoryError(Exception):
    """The chip has not enough memory left."""


@dataclass(frozen=True, kw_only=True)
class Occupant:
    """One use of a chip's memory.

    Attributes:
        logic_id: the chip.
        pid: the process.
        start_ticks: when the process started, in clock ticks since boot: tells a reused pid.
        name: the process's command name, at most 15 characters.
        memory_mb: what it holds.
    """

    logic_id: int
    pid: int
    start_ticks: int
    name: str
    memory_mb: int

    def with_memory(self, memory_mb: int) -> Self:
        """Return the same use with another amount."""
        return replace(self, memory_mb=memory_mb)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A use that this process can end."""

    path: Path

    def release(self) -> None:
        """Give the memory back; again is harmless."""
        self.path.unlink(missing_ok=True)


def occupants(home: Home) -> list[Occupant]:
    """Return the living uses of all chips, by chip and pid, and clear away those of dead processes."""
    found = []
    for path in sorted(home.processes_path.glob("*.json")):
        try:
            occupant = Occupant(**json.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            continue  # released meanwhile
        if _start_ticks(occupant.pid) == occupant.start_ticks:
            found.append(occupant)
        else:
            path.unlink(missing_ok=True)
    return sorted(found, key=lambda each: (each.logic_id, each.pid))


def computing_chips(home: Home, fleet: Fleet) -> frozenset[int]:
    """Return the logic ids of the chips that execute at this instant: their lock is held."""
    return frozenset(chip.logic_id for chip in fleet.chips if home.is_locked(f"chip-{chip.logic_id}"))


def claim(home: Home, chip: Chip, memory_mb: int) -> Claim:
    """Use memory of a chip for this process; raises DeviceMemoryError when it has not enough left."""
    with home.locked("memory"):
        held = sum(each.memory_mb for each in occupants(home) if each.logic_id == chip.logic_id)
        leak = home.fleet().fault(chip.logic_id, FaultKind.LEAK)
        held += leak.memory_mb if leak else 0
        if chip.memory_idle_mb + held + memory_mb > chip.memory_total_mb:
            raise DeviceMemoryError(f"{memory_mb} MB wanted, {held} MB held by others")
        return _write_record(home, chip.logic_id, memory_mb)


def _write_record(home: Home, logic_id: int, memory_mb: int) -> Claim:
    pid = os.getpid()
    occupant = Occupant(
        logic_id=logic_id,
        pid=pid,
        start_ticks=_start_ticks(pid) or 0,
        name=Path("/proc/self/comm").read_text("utf-8").strip(),
        memory_mb=memory_mb,
    )
    # With the start time in its name, a record of a dead process is never taken for one of a reused pid.
    path = home.processes_path / f"{logic_id}-{pid}-{occupant.start_ticks}-{next(_SERIAL)}.json"
    home.processes_path.mkdir(exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(occupant)), "utf-8")
    temporary.replace(path)
    return Claim(path=path)


def _start_ticks(pid: int) -> int | None:
    """Return when a process started, or None when it is gone or a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = status.rpartition(")")[2].split()
    return None if fields[_STATE_FIELD] in "ZX" else int(fields[_START_FIELD])
