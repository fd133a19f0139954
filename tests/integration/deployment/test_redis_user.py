"""The user that docker/redis/start.sh makes: who may do nothing, and what nobody may do.

That the user's rights suffice is shown by a whole run, in tests/acceptance/test_deployed_fleet.py.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from npuq.celery_app import Sender
from npuq.config import Settings
from npuq.errors import BrokerError
from npuq.messages import RUN_ATTEMPT_TASK, SUBMIT_QUEUE, WAKE_KEY, RunAttempt, device_queue
from tests.services.deployed_redis import PASSWORD, START, USER, DeployedRedis

DEPLOY = START.parents[2] / "docs" / "deploy.md"
DOORBELL = RunAttempt(job_id="0" * 32, attempt=1).model_dump()


@pytest.fixture
def client(deployed_redis: DeployedRedis) -> Iterator["redis.Redis"]:
    """Return a client of npuq's user."""
    with deployed_redis.client() as opened:
        yield opened


def url(server: DeployedRedis, user: str, password: str) -> str:
    """Return the broker's URL."""
    return f"redis+socket://{user}:{password}@{server.socket}"


@pytest.mark.parametrize(("user", "password"), [(None, None), (None, PASSWORD), (USER, "wrong"), ("celery", PASSWORD)])
def test_nobody_else_may_send_anything(deployed_redis: DeployedRedis, user: str | None, password: str | None) -> None:
    """A forged doorbell is refused before it reaches a queue."""
    with deployed_redis.client(user, password) as stranger:
        with pytest.raises(redis.exceptions.RedisError, match=r"(?i)auth|password|permission"):
            stranger.lpush(device_queue("h1.chip"), "forged")
        with pytest.raises(redis.exceptions.RedisError, match=r"(?i)auth|password|permission"):
            stranger.get(WAKE_KEY)
    with deployed_redis.client() as ours:
        assert ours.llen(device_queue("h1.chip")) == 0


@pytest.mark.parametrize(
    "command",
    [
        *("FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET dir", "CONFIG SET dir /tmp", "MODULE LIST"),
        *("SHUTDOWN NOSAVE", "SAVE", "BGREWRITEAOF", "REPLICAOF 127.0.0.1 1", "ACL LIST", "ACL SETUSER default on"),
        *("MONITOR", "CLIENT LIST", "CLIENT KILL ID 1", "FUNCTION LIST", "MIGRATE h 1 k 0 1", "SWAPDB 0 1"),
        *("GET secret", "SET secret 1", "LPUSH other.queue x", "PUBLISH other x"),
    ],
)
def test_the_user_may_do_no_more_than_carry_messages(client: "redis.Redis", command: str) -> None:
    """Nothing that loses other people's messages, reaches the host, looks at clients, or leaves npuq's own keys."""
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())  # type: ignore[no-untyped-call]


def test_the_user_may_send_what_npuq_sends(deployed_redis: DeployedRedis, client: "redis.Redis") -> None:
    """Queue, binding and wake-up; nothing but documented keys are left."""
    settings = Settings(home=Path("/nonexistent"), broker_url=url(deployed_redis, USER, PASSWORD))
    sender = Sender(settings)
    queue = device_queue("h1.chip")
    sender.send(RUN_ATTEMPT_TASK, queue, DOORBELL)
    sender.wake()
    assert sender.wait(5.0)
    sender.close()
    assert client.llen(queue) == 1
    client.delete(queue)


def test_npuq_itself_is_told_that_its_password_is_wrong(deployed_redis: DeployedRedis) -> None:
    """As trouble with the broker, with the server's own words and without the password."""
    settings = Settings(home=Path("/nonexistent"), broker_url=url(deployed_redis, USER, "wr0ng-one"))
    sender = Sender(settings)
    with pytest.raises(BrokerError, match=r"(?i)password|auth") as caught:
        sender.send("npuq.submit", SUBMIT_QUEUE, "{}")
    sender.close()
    assert "wr0ng-one" not in str(caught.value)


def test_the_guide_shows_the_rules_that_the_script_gives() -> None:
    """Word by word, so that a server of one's own gets the same."""

    def rules(text: str) -> list[str]:
        found = re.search(
            r"^user npuq on \S+ (.*?)(?:\(all on one line\))?\n(?:ACL|```)", text, re.MULTILINE | re.DOTALL
        )
        assert found is not None
        return found[1].split()

    assert rules(DEPLOY.read_text()) == rules(START.read_text())
