"""What becomes of a failed attempt: a pure decision over values; whoever owns the attempt applies it.

Two budgets: failures of the job itself burn `max_attempts`; what devices, hosts and services did to it burns
`MAX_LOSSES`, after which the job is held for a person, because it may be what takes them down.
"""

from dataclasses import dataclass
from random import Random
from typing import Final

from npuq.errors import Blame, DeviceBusyError, ErrorInfo
from npuq.states import JobState

MAX_LOSSES: Final = 3
BACKOFF_BASE_SECONDS: Final = 1.0
BACKOFF_CAP_SECONDS: Final = 60.0
BUSY_DELAY_SECONDS: Final = 10.0
"""A measurement that found its chip busy looks again after this; it burns no budget."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Where a failed job goes.

    Attributes:
        state: `queued` (another try), `failed` or `held`.
        delay_seconds: not before this long from now; 0 for final states.
        failures, losses: the counters after this attempt.
        avoid_device: another device is better than the one that failed.
        refuse_host: this host cannot run the job at all; another one may.
    """

    state: JobState
    delay_seconds: float = 0.0
    failures: int
    losses: int
    avoid_device: bool = False
    refuse_host: bool = False


def backoff_seconds(tries: int, random: Random) -> float:
    """Return a delay that doubles from 1 s to 60 s, half of it jitter; 0 for the first try."""
    if tries <= 0:
        return 0.0
    ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** (tries - 1))
    return random.uniform(0.5 * ceiling, ceiling)


def decide(error: ErrorInfo, *, failures: int, losses: int, max_attempts: int, random: Random) -> Decision:
    """Decide what becomes of a job whose attempt ended with `error`.

    Args:
        error: what happened.
        failures: the job's own failures so far.
        losses: attempts that infrastructure took so far.
        max_attempts: tries that the job may burn.
        random: source of the jitter.
    """
    if error.code == DeviceBusyError.code:
        return Decision(
            state=JobState.QUEUED,
            delay_seconds=BUSY_DELAY_SECONDS,
            failures=failures,
            losses=losses,
            avoid_device=True,
        )
    if error.blame is Blame.INPUT:
        failures += 1
        if error.retry and failures < max_attempts:
            delay = backoff_seconds(failures, random)
            return Decision(state=JobState.QUEUED, delay_seconds=delay, failures=failures, losses=losses)
        return Decision(state=JobState.FAILED, failures=failures, losses=losses)
    if error.blame is Blame.HOST and not error.retry:
        return Decision(state=JobState.QUEUED, failures=failures, losses=losses, refuse_host=True)
    losses += 1
    if losses > MAX_LOSSES:
        return Decision(state=JobState.HELD, failures=failures, losses=losses)
    return Decision(
        state=JobState.QUEUED,
        delay_seconds=backoff_seconds(losses - 1, random),
        failures=failures,
        losses=losses,
        avoid_device=error.blame in {Blame.DEVICE, Blame.HOST},
    )
