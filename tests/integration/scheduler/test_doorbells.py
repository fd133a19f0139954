"""The broker's side: doorbells and wake-ups over a real Redis, and submissions that survive its absence."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from db import runs
from npuq.celery_app import Sender
from npuq.client import Client
from npuq.config import Settings
from npuq.errors import BrokerError
from npuq.messages import RUN_ATTEMPT_TASK, SUBMIT_QUEUE, WAKE_KEY, device_queue
from scheduler import intake
from tests.services.redis_server import RedisServer
from tests.services.world import World, run_spec

PAYLOAD = {"schema_version": 1, "job_id": "0" * 32, "attempt": 1}


@pytest.fixture
def connected(settings: Settings, redis_server: RedisServer, sqlite_url: str) -> Settings:
    """Return settings of a fleet with a broker and a database."""
    return settings.model_copy(update={"broker_url": redis_server.url, "database_url": sqlite_url})


@pytest.fixture
def sender(connected: Settings) -> Iterator[Sender]:
    """Return a sender."""
    opened = Sender(connected)
    yield opened
    opened.close()


@pytest.fixture
def client(connected: Settings) -> Iterator[Client]:
    """Return a laptop."""
    opened = Client(connected)
    yield opened
    opened.close()


def sent(redis_server: RedisServer, queue: str) -> list[tuple[str, object]]:
    """Return (task, payload) of the messages of a queue, oldest first."""
    messages = [json.loads(raw) for raw in reversed(redis_server.client.lrange(queue, 0, -1))]
    return [(message["headers"]["task"], message["headers"]["argsrepr"]) for message in messages]


def test_a_doorbell_lies_in_its_devices_queue(sender: Sender, redis_server: RedisServer) -> None:
    """Nobody need listen: the message waits, and nothing undocumented is left in Redis."""
    queue = device_queue("h1.npu0.0")
    sender.send(RUN_ATTEMPT_TASK, queue, PAYLOAD)
    sender.send(RUN_ATTEMPT_TASK, queue, PAYLOAD)
    assert [task for task, _ in sent(redis_server, queue)] == [RUN_ATTEMPT_TASK] * 2


def test_wake_ups_do_not_pile_up(sender: Sender, redis_server: RedisServer) -> None:
    """A thousand events are one reason to look; without one the wait is bounded."""
    for _ in range(5):
        sender.wake()
    assert redis_server.client.llen(WAKE_KEY) == 1
    assert sender.wait(5.0)
    assert not sender.wait(0.05)


def test_a_broker_that_is_away_is_our_error(connected: Settings, tmp_path: Path) -> None:
    """Sending and waiting say so; a lost wake-up costs a tick and is no error."""
    away = Sender(connected.model_copy(update={"broker_url": f"redis+socket://{tmp_path / 'nobody.sock'}"}))
    with pytest.raises(BrokerError, match="npuq status"):
        away.send(RUN_ATTEMPT_TASK, SUBMIT_QUEUE, PAYLOAD)
    with pytest.raises(BrokerError):
        away.wait(0.05)
    away.wake()
    away.close()


def test_a_submission_made_while_redis_was_away_or_flushed_arrives_once(
    client: Client, connected: Settings, redis_server: RedisServer, tmp_path: Path
) -> None:
    """It stays in the outbox until the run is in the database, however often Redis forgets it."""
    offline = Client(connected.model_copy(update={"broker_url": f"redis+socket://{tmp_path / 'nobody.sock'}"}))
    spec = run_spec()
    told = offline.submit(spec, wait_seconds=0.0)
    offline.close()
    assert (told.sent, told.seen) == (False, False)
    assert client.flush_outbox() == 1
    redis_server.client.flushall()
    (tmp_path / "home" / "outbox" / f"{spec.run_id}.sent").unlink()
    assert client.flush_outbox() == 1
    assert len(sent(redis_server, SUBMIT_QUEUE)) == 1
    for _ in range(2):
        intake.accept(client.database, spec.model_dump_json())
    assert client.flush_outbox() == 0
    assert client.run(spec.run_id).state == "submitted"
    assert not list((tmp_path / "home" / "outbox").glob("*"))


def test_with_no_scheduler_up_the_submitter_is_told(client: Client) -> None:
    """The message is sent and nobody has taken it yet."""
    told = client.submit(run_spec(), wait_seconds=0.0)
    assert (told.sent, told.seen) == (True, False)
    assert "nobody is listening yet" in told.problem


def test_a_forged_submission_makes_no_run(sqlite_world: World) -> None:
    """Whatever lies in the queue, only a valid specification becomes a row."""
    for payload in (None, "", "{}", run_spec().model_dump(), "[1]"):
        assert not intake.accept(sqlite_world.database, payload)
    assert sqlite_world.read(runs.find) == []
