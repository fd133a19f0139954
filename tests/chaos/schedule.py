"""Which fault strikes when: a pure function of a seed, so that a failing seed strikes again in the same way."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

from tests.fleet.fleet import DatabaseKind


class FaultKind(StrEnum):
    """What is done to the fleet."""

    KILL_WORKER = "kill_worker"  #: SIGKILL of one Celery worker, of a chip or of the host
    KILL_CHILD = "kill_child"  #: SIGKILL of one device process or host job
    KILL_LAUNCHER = "kill_launcher"  #: SIGKILL of the launcher; its workers drain
    KILL_SCHEDULER = "kill_scheduler"  #: SIGKILL of one scheduler
    KILL_SCHEDULERS = "kill_schedulers"  #: SIGKILL of all of them
    STOP_SCHEDULER = "stop_scheduler"  #: SIGSTOP beyond its lead, then SIGCONT: two lead for a moment
    KILL_REDIS = "kill_redis"  #: SIGKILL; comes back with what its log held
    WIPE_REDIS = "wipe_redis"  #: SIGKILL, and its data are deleted
    FLUSH_REDIS = "flush_redis"  #: FLUSHALL
    KILL_POSTGRESQL = "kill_postgresql"  #: immediate shutdown or SIGKILL of the postmaster
    STOP_WORKER = "stop_worker"  #: SIGSTOP beyond its lease, then SIGCONT: a late completion
    DOUBLE_MESSAGES = "double_messages"  #: every doorbell of an active attempt rings twice more
    STEAL_MESSAGES = "steal_messages"  #: messages are taken from a queue and arrive seconds later
    REPLAY_MESSAGES = "replay_messages"  #: messages seen earlier arrive again, anywhere
    FORGE_MESSAGES = "forge_messages"  #: malformed ones, and well-formed ones that nobody sent
    CANCEL_JOB = "cancel_job"  #: a person cancels a job


_WEIGHTS: Final[Mapping[FaultKind, int]] = {
    FaultKind.KILL_WORKER: 6,
    FaultKind.KILL_CHILD: 5,
    FaultKind.KILL_LAUNCHER: 1,
    FaultKind.KILL_SCHEDULER: 3,
    FaultKind.KILL_SCHEDULERS: 1,
    FaultKind.STOP_SCHEDULER: 1,
    FaultKind.KILL_REDIS: 2,
    FaultKind.WIPE_REDIS: 1,
    FaultKind.FLUSH_REDIS: 2,
    FaultKind.KILL_POSTGRESQL: 3,
    FaultKind.STOP_WORKER: 3,
    FaultKind.DOUBLE_MESSAGES: 3,
    FaultKind.STEAL_MESSAGES: 2,
    FaultKind.REPLAY_MESSAGES: 3,
    FaultKind.FORGE_MESSAGES: 2,
    FaultKind.CANCEL_JOB: 2,
}


@dataclass(frozen=True, kw_only=True)
class PlannedFault:
    """A fault of the schedule.

    Attributes:
        kind: what.
        wait_seconds: after the one before.
        seed: of every choice that is made when it strikes (which process, how long).
    """

    kind: FaultKind
    wait_seconds: float
    seed: int


def faults(seed: int, *, mean_wait_seconds: float, database: DatabaseKind) -> Iterator[PlannedFault]:
    """Yield faults without end.

    Every kind strikes once, in random order, before chance decides by weight: a short run meets all of them.

    Args:
        seed: of everything.
        mean_wait_seconds: waits are uniform between half and one and a half of this.
        database: PostgreSQL can be killed, SQLite has no server.
    """
    random = Random(f"{seed}/schedule")
    kinds = [kind for kind in FaultKind if database == "postgresql" or kind is not FaultKind.KILL_POSTGRESQL]
    first = random.sample(kinds, len(kinds))
    while True:
        kind = first.pop() if first else random.choices(kinds, [_WEIGHTS[kind] for kind in kinds])[0]
        wait = random.uniform(0.5, 1.5) * mean_wait_seconds
        yield PlannedFault(kind=kind, wait_seconds=wait, seed=random.getrandbits(32))
