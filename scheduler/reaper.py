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

    def lost(self, active: Sequence[ActiveAttempt], now: float) -> list[ActiveAttempt]:
        """Return the attempts that both witnesses call lost.

        Args:
            active: every active attempt, as read just now.
            now: monotonic seconds.
        """
        running = [attempt for attempt in active if attempt.state is AttemptState.RUNNING]
        lost: list[ActiveAttempt] = []
        seen: dict[tuple[str, int], _Sight] = {}
        for attempt in running:
            key = (attempt.job_id, attempt.number)
            sight = self._seen.get(key)
            if sight is None or sight.beats != attempt.beats:
                sight = _Sight(beats=attempt.beats, since=now)
            seen[key] = sight
            still = now - sight.since
            if attempt.lease_over and still >= self._timing.lease_seconds(attempt.age_seconds):
                lost.append(attempt)
        self._seen = seen
        return lost
