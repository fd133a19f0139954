"""What is no message must cost a log line, not a worker: one bad list entry once ended whole workers and schedulers."""

from typing import Any

import pytest

from npuq.celery_app import Sender, make_app
from npuq.config import Settings
from npuq.messages import SUBMIT_QUEUE, SUBMIT_TASK
from tests.services.redis_server import RedisServer

GARBAGE = (b"", b"{", b"null", b"[]", b"7", b'{"body": 1}', b'{"properties": 7}', b"\x80\x04K\x01.", b"x" * 100_000)


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_a_consumer_survives_what_is_no_message(garbage: bytes, redis_server: RedisServer, settings: Settings) -> None:
    """The message behind the garbage is delivered, by the same consumer."""
    ours = settings.model_copy(update={"broker_url": redis_server.url})
    app = make_app(ours)
    sender = Sender(ours)
    received: list[Any] = []
    redis_server.client.lpush(SUBMIT_QUEUE, garbage)
    sender.send(SUBMIT_TASK, SUBMIT_QUEUE, "real")
    with app.connection_for_read() as connection:
        consumer = app.amqp.TaskConsumer(connection.channel())
        consumer.on_message = lambda message: received.append(message.payload[0])
        with consumer:
            while not received:
                connection.drain_events(timeout=10)
    sender.close()
    app.close()
    assert received == [["real"]]
