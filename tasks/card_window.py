"""What the chips of a card did at the same time, from when each of them executed. Pure.

A card's throughput is the sum of what its chips did in one common window, each by the guides' formula from device
times; it is not one chip's multiplied.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Some executions of one chip, one after another.

    Attributes:
        start, end: seconds of the host's monotonic clock, which all its processes share.
        executions: how many.
        execute_ms: device time of all of them together, milliseconds.
    """

    start: float
    end: float
    executions: int
    execute_ms: float

    def to_json(self) -> list[float]:
        """Return the JSON form."""
        return [self.start, self.end, self.executions, self.execute_ms]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Self:
        """Read the JSON form; raises ValueError or TypeError when it is not one."""
        start, end, executions, execute_ms = data
        return cls(start=float(start), end=float(end), executions=int(executions), execute_ms=float(execute_ms))


@dataclass(frozen=True, kw_only=True)
class ChipShare:
    """What one chip did in the window.

    Attributes:
        executions: how many began and ended in it.
        mean_ms: device time of one, milliseconds.
        fps: 1000 x batch / mean_ms.
    """

    executions: int
    mean_ms: float
    fps: float


@dataclass(frozen=True, kw_only=True)
class CardRate:
    """What a card did: its window in seconds, and its chips in the order of the timelines."""

    window_seconds: float
    chips: tuple[ChipShare, ...]

    @property
    def fps(self) -> float:
        """Return the card's throughput."""
        return sum(chip.fps for chip in self.chips)

    @property
    def mean_ms(self) -> float:
        """Return the device time of one execution, over those of all chips."""
        executions = sum(chip.executions for chip in self.chips)
        return sum(chip.mean_ms * chip.executions for chip in self.chips) / executions


def card_rate(timelines: Sequence[Sequence[Slice]], batch_size: int) -> CardRate | None:
    """Return the throughput of a card; None when its chips were not all at work at the same time.

    Args:
        timelines: of each chip, its slices in order. The window begins when the last chip had begun, and ends when the
            first one ended; slices that lie in it as a whole count.
        batch_size: samples per execution.
    """
    if not timelines or not all(timelines):
        return None
    start = max(slices[0].start for slices in timelines)
    end = min(slices[-1].end for slices in timelines)
    chips: list[ChipShare] = []
    for slices in timelines:
        inside = [each for each in slices if start <= each.start and each.end <= end]
        executions = sum(each.executions for each in inside)
        execute_ms = sum(each.execute_ms for each in inside)
        if not executions or execute_ms <= 0:
            return None
        mean_ms = execute_ms / executions
        chips.append(ChipShare(executions=executions, mean_ms=mean_ms, fps=1000 * batch_size / mean_ms))
    return CardRate(window_seconds=end - start, chips=tuple(chips))
