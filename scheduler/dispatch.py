"""Giving jobs to devices: first in the database, then the doorbells.

They ring after the commit, again until somebody answers, and are never the only record of anything.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from db import jobs
from db.engine import Database
from db.records import ActiveAttempt
from npuq.celery_app import Sender
from npuq.errors import BrokerError, SupersededError
from npuq.log import get_logger
from npuq.messages import RUN_ATTEMPT_TASK, RunAttempt, device_queue, host_queue
from npuq.states import AttemptState
from scheduler.placement import Placement

log = get_logger(__name__)


def write(connection: Connection, chosen: Iterable[Placement]) -> int:
    """Dispatch what was chosen, each unless it has moved on meanwhile; returns how many."""
    return sum(jobs.dispatch(connection, item.job_id, item.attempt, item.device_id) for item in chosen)


def write_together(database: Database, chosen: Sequence[Placement]) -> int:
    """Dispatch the jobs for all chips of a card, all or none, and only to chips that are still free; how many."""

    def all_or_none(connection: Connection) -> int:
        if not jobs.are_free(connection, [item.device_id for item in chosen]):
            raise SupersededError("another scheduler has given a chip of the card something else")
        if write(connection, chosen) < len(chosen):
            raise SupersededError("one of the jobs for a card moved on meanwhile")
        return len(chosen)

    try:
        return database.transact(all_or_none)
    except SupersededError:
        return 0  # the next tick sees what is left


def due(active: Iterable[ActiveAttempt], *, resend_seconds: float) -> list[ActiveAttempt]:
    """Return the attempts whose doorbell must ring: not rung yet, or unanswered on a device that has nothing else.

    A job given ahead waits behind another one: its message is in the worker's hands, ringing again would be noise.
    """
    everything = list(active)
    running = {attempt.device_id for attempt in everything if attempt.state is AttemptState.RUNNING}
    return [
        attempt
        for attempt in everything
        if attempt.state is AttemptState.DISPATCHED
        and (
            attempt.unanswered_seconds is None
            or (attempt.unanswered_seconds > resend_seconds and attempt.device_id not in running)
        )
    ]


def ring(database: Database, sender: Sender, attempts: Iterable[ActiveAttempt], host_slots: dict[str, str]) -> int:
    """Send the doorbells and note it; returns how many were sent. A broker that is away is tried again next tick.

    Args:
        database: where the sending is noted.
        sender: the broker.
        attempts: whose doorbells to ring.
        host_slots: device id -> host id, for slots of host workers; chips have queues of their own.
    """
    sent: list[tuple[str, int]] = []
    for attempt in attempts:
        host = host_slots.get(attempt.device_id)
        queue = device_queue(attempt.device_id) if host is None else host_queue(host)
        payload = RunAttempt(job_id=attempt.job_id, attempt=attempt.number).model_dump()
        try:
            sender.send(RUN_ATTEMPT_TASK, queue, payload)
        except BrokerError as error:
            log.warning("send_failed", job_id=attempt.job_id, attempt=attempt.number, reason=str(error))
            break
        sent.append((attempt.job_id, attempt.number))
    if sent:
        database.transact(lambda connection: jobs.mark_published(connection, sent))
    return len(sent)
