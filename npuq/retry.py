"""What becomes of a failed attempt: a pure decision over values; whoever owns the attempt applies it.

Two budgets: failures of the job itself burn `max_attempts`; what devices, hosts and services did to it burns
`MAX_LOSSES`, after which the job is held for a person, because it may be what takes them down. A service of the fleet
that is away burns neither; an input that is gone or damaged holds the job at once.
"""

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from npuq.errors import Blame, DeviceBusyError, ErrorInfo
from npuq.states import JobState

MAX_LOSSES: Final = 3
BACKOFF_BASE_SECONDS: Final = 1.0
BACKOFF_CAP_SECONDS: Final = 60.0
FLEET_DELAY_SECONDS: Final = 30.0
"""After trouble with the store or another service of the fleet: no job's fault, and it burns no job's budget."""
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


def convict(error: ErrorInfo, previous_code: str | None) -> ErrorInfo:
    """Return the error, blamed on the input when it is of a kind that another try helps once, and came again.

    Args:
        error: of this attempt.
        previous_code: how the job's attempt before ended; None: it has none, or that succeeded.
    """
    if not error.once or error.code != previous_code:
        return error
    message = f"{error.message} It came twice, so the input is taken to be at fault."
    return replace(error, blame=Blame.INPUT, retry=False, once=False, message=message)


def decide(error: ErrorInfo, *, failures: int, losses: int, max_attempts: int, random: Random) -> Decision:
    """Decide what becomes of a job whose attempt ended with `error`.

    Args:
        error: what happened.
        failures: the job's own failures so far.
        losses: attempts that infrastructure took so far.
        max_attempts: tries that the job may burn.
        random: source of the jitter.
    """
    queued = Decision(state=JobState.QUEUED, failures=failures, losses=losses)
    if error.code == DeviceBusyError.code:
        return replace(queued, delay_seconds=BUSY_DELAY_SECONDS, avoid_device=True)
    match error.blame:
        case Blame.INPUT:
            return _own_failure(error, replace(queued, failures=failures + 1), max_attempts, random)
        case Blame.FLEET if error.retry:
            return replace(queued, delay_seconds=random.uniform(0.5 * FLEET_DELAY_SECONDS, FLEET_DELAY_SECONDS))
        case Blame.FLEET:
            return replace(queued, state=JobState.HELD)
        case Blame.HOST if not error.retry:
            return replace(queued, refuse_host=True)
        case _:
            return _loss(replace(queued, losses=losses + 1), random)


def _own_failure(error: ErrorInfo, counted: Decision, max_attempts: int, random: Random) -> Decision:
    if error.retry and counted.failures < max_attempts:
        return replace(counted, delay_seconds=backoff_seconds(counted.failures, random))
    return replace(counted, state=JobState.FAILED)


def _loss(counted: Decision, random: Random) -> Decision:
    if counted.losses > MAX_LOSSES:
        return replace(counted, state=JobState.HELD)
    return replace(counted, delay_seconds=backoff_seconds(counted.losses - 1, random), avoid_device=True)
