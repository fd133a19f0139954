"""When a chip is taken out of service, and when it comes back. Pure: looks and rows in, a ruling or nothing out.

| what is seen | state | comes back |
| --- | --- | --- |
| health OK or Warning, also with strangers' processes | stays | |
| health UNKNOWN, or a new word; no table at all, twice | draining | good looks (no table: one) |
| health Alarm or Critical | quarantined | good looks |
| memory that no process holds, twice, while nothing of ours runs | quarantined | good looks |
| not in a table that shows others | lost | good looks |
| the same of these for the third time in 24 hours | quarantined | a person |
| errors that blame the chip, too many of a kind (`after_error`) | quarantined | a person |

What a person set, only a person takes back. What runs on a chip that is quarantined or lost is handed back by its
worker; what runs on a draining one goes on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from npuq.states import HEALING_CAUSES, DeviceCause, DeviceState

GOOD_LOOKS: Final = 3
"""So many good looks in a row bring a chip back."""
DIRTY_LOOKS: Final = 2
"""So many in a row with held memory make a chip dirty: the driver may need a moment to free it."""
FALLS_FOR_A_PERSON: Final = 3
"""So often within 24 hours the same trouble, and a person has to look."""
LEAK_MIB: Final = 512
"""Memory above the idle baseline that nobody holds; less comes and goes with the system's own caches."""
_HEALTHY: Final = frozenset({"OK", "Warning"})
_SICK: Final[Mapping[str, DeviceCause]] = {"Alarm": DeviceCause.ALARM, "Critical": DeviceCause.CRITICAL}


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at a chip.

    Attributes:
        health: its word; None: the chip is not in the table.
        unowned_memory_mib: device memory in use less what processes hold; None: not known.
        processes: rows of the process table on this chip.
        processes_known: whether the tool said anything about processes on the card.
    """

    health: str | None
    unowned_memory_mib: int | None = None
    processes: int = 0
    processes_known: bool = False


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What the database knows of a chip.

    Attributes:
        state: as stored, nothing derived.
        cause: why.
        in_use: whether an attempt runs on it.
        loaded: whether a process of ours keeps models on it between attempts.
        baseline_mib: memory in use when nobody uses it; None: not learned.
        falls: how often each cause took it out of service in the last 24 hours.
    """

    state: DeviceState
    cause: str
    in_use: bool
    loaded: bool = False
    baseline_mib: int | None
    falls: Mapping[DeviceCause, int]


@dataclass(frozen=True, kw_only=True)
class Streaks:
    """How many of the last looks in a row, this one included, were good, and how many found held memory."""

    good: int = 0
    dirty: int = 0

    def after(self, look: Look, standing: Standing) -> "Streaks":
        """Return the streaks with one more look."""
        dirty = holds_memory(look, standing)
        good = look.health in _HEALTHY and not dirty
        return Streaks(good=self.good + 1 if good else 0, dirty=self.dirty + 1 if dirty else 0)


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """Where a chip goes, and why."""

    state: DeviceState
    cause: DeviceCause
    reason: str


def holds_memory(look: Look, standing: Standing) -> bool:
    """Return whether memory is in use that nobody holds; unknown is no."""
    if standing.in_use or standing.baseline_mib is None or not look.processes_known:
        return False
    return look.unowned_memory_mib is not None and look.unowned_memory_mib > standing.baseline_mib + LEAK_MIB


def judge(look: Look, standing: Standing, streaks: Streaks) -> Ruling | None:
    """Return where a chip goes after a look, None when it stays where it is."""
    if standing.state in {DeviceState.DRAINING, DeviceState.QUARANTINED} and standing.cause not in HEALING_CAUSES:
        return None
    trouble = _trouble(look, standing, streaks)
    if trouble is not None:
        return None if standing.cause == trouble.cause else trouble
    if standing.cause not in HEALING_CAUSES:
        return None
    cause = DeviceCause(standing.cause)
    if streaks.good < (1 if cause is DeviceCause.NO_ANSWER else GOOD_LOOKS):
        return None
    if cause is not DeviceCause.NO_ANSWER and standing.falls.get(cause, 0) >= FALLS_FOR_A_PERSON:
        return Ruling(
            state=DeviceState.QUARANTINED,
            cause=DeviceCause.REPEATED,
            reason=f"{cause} for the {FALLS_FOR_A_PERSON}rd time in 24 hours; look at the chip, then resume it",
        )
    return Ruling(state=DeviceState.ONLINE, cause=DeviceCause.RETURNED, reason="")


def _trouble(look: Look, standing: Standing, streaks: Streaks) -> Ruling | None:
    if look.health is None:
        return Ruling(state=DeviceState.LOST, cause=DeviceCause.VANISHED, reason="npu-smi no longer shows it")
    if look.health in _SICK:
        cause = _SICK[look.health]
        reason = f"its health is {look.health}; see: npu-smi info -t health"
        return Ruling(state=DeviceState.QUARANTINED, cause=cause, reason=reason)
    if look.health not in _HEALTHY:
        reason = f"its health is {look.health}: neither well nor sick"
        return Ruling(state=DeviceState.DRAINING, cause=DeviceCause.UNKNOWN_HEALTH, reason=reason)
    if streaks.dirty >= DIRTY_LOOKS or (streaks.dirty and standing.cause == DeviceCause.DIRTY):
        reason = (
            f"{look.unowned_memory_mib} MiB are in use that no process holds, {standing.baseline_mib} MiB are usual; "
            "the operator may reset the chip, or resume it if that is its new usual"
        )
        return Ruling(state=DeviceState.QUARANTINED, cause=DeviceCause.DIRTY, reason=reason)
    return None


def judge_silence(standing: Standing, failed_looks: int) -> Ruling | None:
    """Return where a chip goes when npu-smi gave no table so many times in a row: unknown is not gone."""
    if standing.state is not DeviceState.ONLINE or failed_looks < DIRTY_LOOKS:
        return None
    return Ruling(
        state=DeviceState.DRAINING,
        cause=DeviceCause.NO_ANSWER,
        reason=f"npu-smi gave no table {failed_looks} times: the chip's state is unknown",
    )


def after_error(code: str, times: int, limit: int) -> Ruling | None:
    """Return where a chip goes after a job failed on it and the chip is to blame, None when it stays.

    Args:
        code: of the error.
        times: failures with this code in the last 24 hours, this one included.
        limit: so many are enough; 0: never.
    """
    if limit == 0 or times < limit:
        return None
    counted = "" if times == 1 else f" {times} times in 24 hours"
    return Ruling(
        state=DeviceState.QUARANTINED,
        cause=DeviceCause.ERRORS,
        reason=f"jobs failed on it with {code}{counted}; look at the chip, then resume it",
    )


def is_idle(look: Look, standing: Standing) -> bool:
    """Return whether the unowned memory at this look is what is usual for a chip that nobody uses.

    Where processes and what they hold are known, they may be there; where they are not, nothing of ours may be.
    """
    clear = look.processes_known or not standing.loaded
    return look.health in _HEALTHY and not standing.in_use and clear and not holds_memory(look, standing)


def baseline(seen_mib: Sequence[int], *, processes_known: bool) -> int:
    """Return what is usual from a few idle looks: their median, or their least where strangers may be hidden."""
    ordered = sorted(seen_mib)
    return ordered[len(ordered) // 2] if processes_known else ordered[0]
