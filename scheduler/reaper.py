"""Which attempts are lost.

Two witnesses: the lease is over by the database's clock, and the beat counter stood still for as long by this
process's own monotonic clock. So a clock step or an outage
of the database expires nothing, and a scheduler that has just started waits one whole lease before it takes anything
away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from db.records import ActiveAttempt
from npuq.config import Timing
from npuq.states import AttemptState


@dataclass(frozen=True, kw_only=True)
class _Sight:
    beats: int
    since: float


class Witness:
    """Remembers when it last saw each attempt beat."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._seen: dict[tuple[str, int], _Sight] = {}
        self._looked: float | None = None

    def lost(self, active: Sequence[ActiveAttempt], now: float) -> list[ActiveAttempt]:
        """Return the attempts that both witnesses call lost.

        Args:
            active: every active attempt, as read just now.
            now: monotonic seconds.
        """
        blind = self._blind_seconds(now)
        running = [attempt for attempt in active if attempt.state is AttemptState.RUNNING]
        lost: list[ActiveAttempt] = []
        seen: dict[tuple[str, int], _Sight] = {}
        for attempt in running:
            key = (attempt.job_id, attempt.number)
            sight = self._seen.get(key)
            if sight is None or sight.beats != attempt.beats:
                sight = _Sight(beats=attempt.beats, since=now)
            elif blind:
                sight = _Sight(beats=sight.beats, since=sight.since + blind)
            seen[key] = sight
            still = now - sight.since
            if attempt.lease_over and still >= self._timing.lease_seconds(attempt.age_seconds):
                lost.append(attempt)
        self._seen = seen
        return lost

    def _blind_seconds(self, now: float) -> float:
        """Return how long nobody looked, if that was long: a beat could not be seen then, so it does not count.

        While the database is away no worker can beat and no scheduler can look; when it is back, the workers get the
        time that they lacked.
        """
        gap = 0.0 if self._looked is None else now - self._looked
        self._looked = now
        return gap if gap > self._timing.lost_seconds / 4 else 0.0
