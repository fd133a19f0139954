"""Whether a chip is fit for a measurement, and whether something disturbed one. Pure; design, section 8."""

from dataclasses import asdict, dataclass
from typing import Any, Final

#: Memory that may come and go during a measurement without anybody else being there: the system's own caches.
MEMORY_SLACK_MIB: Final = 256
_HEALTHY: Final = "OK"


@dataclass(frozen=True, kw_only=True)
class ChipState:
    """What `npu-smi` says about one chip at one moment.

    Attributes:
        health: its word, for example `OK`, `Warning`, `Alarm`; None when the chip is not in the table.
        foreign_processes: processes on the chip that are not the measuring one, for people to read.
        processes_visible: whether the tool shows processes at all; old drivers and containers may hide them.
        memory_used_mib: device memory in use, ours included; None when not shown.
        leaked_memory_mib: device memory above its usual that no process holds; None when that cannot be told.
        temperature_celsius: None when not shown.
        power_watts: None when not shown.
    """

    health: str | None
    foreign_processes: tuple[str, ...] = ()
    processes_visible: bool = True
    memory_used_mib: int | None = None
    leaked_memory_mib: int | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None

    def as_facts(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self) | {"foreign_processes": list(self.foreign_processes)}


def why_busy(state: ChipState) -> str | None:
    """Return why a measurement on the chip would not count, or None."""
    if state.health is None:
        return "npu-smi does not show the chip"
    if state.health != _HEALTHY:
        return f"its health is {state.health}"
    if state.foreign_processes:
        return f"other processes use it: {', '.join(state.foreign_processes)}"
    if state.leaked_memory_mib:
        return f"{state.leaked_memory_mib} MiB of its memory are in use that no process holds"
    return None


def disturbance(before: ChipState, after: ChipState) -> str | None:
    """Return what happened to the chip between two looks that spoils a measurement, or None."""
    busy = why_busy(after)
    if busy is not None:
        return busy
    if before.memory_used_mib is None or after.memory_used_mib is None:
        return None
    moved_mib = after.memory_used_mib - before.memory_used_mib
    if abs(moved_mib) > MEMORY_SLACK_MIB:
        return f"its memory in use moved by {moved_mib} MiB"
    return None
