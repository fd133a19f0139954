"""What a broker that misbehaves does to messages: doubles, delays, replays; and what an intruder sends."""

import json
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Any, Final, cast

from npuq.celery_app import Sender, redis_client
from npuq.config import Settings
from npuq.messages import RUN_ATTEMPT_TASK, SUBMIT_QUEUE, SUBMIT_TASK, RunAttempt, device_queue, host_queue
from tests.chaos.evidence import AttemptRow

REMEMBERED: Final = 500
LOOKED_AT: Final = 20
"""Messages of one queue; copies of copies must not grow without end."""
STEAL_SECONDS: Final = 0.3
STOLEN_AT_ONCE: Final = 5
GARBAGE: Final = (b"", b"{", b"null", b"[]", b'{"body": 1}', b"\x80\x04K\x01.", b"x" * 100_000)


@dataclass(frozen=True, kw_only=True)
class _Held:
    queue: str
    raw: bytes
    due: float


class Messages:
    """Access to the broker below Celery. Every method raises redis.RedisError or BrokerError when it is away."""

    def __init__(self, settings: Settings) -> None:
        self._host = str(settings.host_name)
        self._redis = redis_client(settings)
        self._sender = Sender(settings)
        self._seen: deque[tuple[str, bytes]] = deque(maxlen=REMEMBERED)
        self._known: set[bytes] = set()
        self._held: list[_Held] = []

    def queues(self) -> list[str]:
        """Return the queues that hold something now."""
        return sorted(key.decode() for key in self._redis.scan_iter("npuq.*", _type="list"))

    def remember(self) -> None:
        """Keep copies of what lies in the queues, to be sent again later."""
        for queue in self.queues():
            for raw in self._lying_in(queue):
                self._keep(queue, raw)

    def _lying_in(self, queue: str) -> list[bytes]:
        return cast("list[bytes]", self._redis.lrange(queue, 0, LOOKED_AT - 1))

    def _keep(self, queue: str, raw: bytes) -> None:
        if raw not in self._known:
            self._known.add(raw)
            self._seen.append((queue, raw))

    def flush(self) -> None:
        """FLUSHALL."""
        self._redis.flushall()

    def double(self, active: list[AttemptRow]) -> int:
        """Put copies of what is queued beside it, and ring the doorbell of every active attempt again."""
        copies = [(queue, raw) for queue in self.queues() for raw in self._lying_in(queue)]
        for queue, raw in copies:
            self._redis.lpush(queue, raw, raw)
        for attempt in active:
            for _ in range(2):
                self.ring(attempt.job_id, attempt.number, attempt.device_id)
        return 2 * (len(copies) + len(active))

    def ring(self, job_id: str, number: int, device_id: str) -> None:
        """Ring a doorbell as the scheduler does."""
        payload = RunAttempt(job_id=job_id, attempt=number).model_dump()
        self._sender.send(RUN_ATTEMPT_TASK, self._queue_of(device_id), payload)

    def _queue_of(self, device_id: str) -> str:
        slot_of_host = device_id.startswith(f"{self._host}.host.")
        return host_queue(self._host) if slot_of_host else device_queue(device_id)

    def steal(self, queues: list[str], now: float, random: Random) -> int:
        """Take what arrives in these queues within a moment, to be delivered seconds later, perhaps twice."""
        taken = 0
        while taken < STOLEN_AT_ONCE:
            popped = cast("tuple[bytes, bytes] | None", self._redis.brpop([*queues, SUBMIT_QUEUE], STEAL_SECONDS))
            if popped is None:
                break
            queue, raw = popped[0].decode(), popped[1]
            self._keep(queue, raw)
            for _ in range(random.randint(1, 2)):
                self._held.append(_Held(queue=queue, raw=raw, due=now + random.uniform(1.0, 8.0)))
            taken += 1
        return taken

    def deliver(self, now: float) -> None:
        """Deliver what was held back long enough."""
        for held in [held for held in self._held if held.due <= now]:
            self._redis.lpush(held.queue, held.raw)
            self._held.remove(held)

    def replay(self, old: list[AttemptRow], random: Random, count: int) -> int:
        """Send old messages again: raw ones that were seen, and doorbells of attempts, over or not."""
        raw = random.sample(list(self._seen), min(count, len(self._seen)))
        for queue, message in raw:
            self._redis.lpush(queue, message)
        again = random.sample(old, min(count, len(old)))
        for attempt in again:
            self.ring(attempt.job_id, attempt.number, attempt.device_id)
        return len(raw) + len(again)

    def forge(self, known: list[AttemptRow], devices: list[str], random: Random) -> int:
        """Send what nobody has a right to: garbage, wrong payloads, attempts that are not there, foreign devices."""
        queue = device_queue(random.choice(devices))
        self._redis.lpush(queue, random.choice(GARBAGE))
        self._redis.lpush(SUBMIT_QUEUE, random.choice(GARBAGE))
        payloads: tuple[Any, ...] = (
            None,
            [],
            {"job_id": "../../etc"},
            {"schema_version": 2},
            "text",
            {"job_id": "0" * 32, "attempt": 1},
        )
        self._sender.send(RUN_ATTEMPT_TASK, queue, random.choice(payloads))
        self._sender.send("npuq.unheard_of", queue, {})
        self._sender.send(SUBMIT_TASK, SUBMIT_QUEUE, json.dumps({"run_id": "x", "goals": ["rm"]}))
        for attempt in random.sample(known, min(3, len(known))):
            self.ring(attempt.job_id, attempt.number + random.randint(1, 3), attempt.device_id)
            self.ring(attempt.job_id, attempt.number, random.choice(devices))
        return 5 + 2 * min(3, len(known))

    def close(self) -> None:
        """Close the connections."""
        self._sender.close()
        self._redis.close()
