"""The one Celery configuration, used by both ends of the wire. Celery is imported only when it is called.

Every setting answers a way in which Celery over Redis loses, doubles or stalls work; what they cannot prevent, the
database makes harmless (docs/architecture.md, "The queue"):

- acknowledge early: with late acknowledgement any TCP reset starts a second copy of a running job within a second;
- no result backend, no canvas, no retry, no ETA, no priorities: each keeps state in Redis that can be lost;
- JSON only: nothing is unpickled;
- socket timeouts and health checks: without them a half-open connection is never noticed;
- prefetch 1 with early acknowledgement: the next job's message waits in the worker, about 2 ms between jobs;
- QUIT waits for the running job as TERM does, at most so long as a stopping worker may take;
- no gossip, mingle, heartbeat, remote control or events: lossy, and each has stalled workers.
"""

from collections.abc import Callable, Sequence
from functools import cache
from queue import Empty
from typing import TYPE_CHECKING, Any, Final

from npuq.config import Settings
from npuq.errors import BrokerError, ConfigError
from npuq.log import get_logger
from npuq.messages import SUBMIT_QUEUE, WAKE_KEY

if TYPE_CHECKING:
    import redis

SOCKET_TIMEOUT_SECONDS: Final = 5
CONNECT_TIMEOUT_SECONDS: Final = 3
#: What parsing an entry raises that is not JSON, or not a message of kombu's.
_NOT_A_MESSAGE: Final = (ValueError, TypeError, KeyError, AttributeError)
log = get_logger(__name__)


def make_app(settings: Settings, queues: Sequence[str] = (SUBMIT_QUEUE,)) -> Any:  # noqa: ANN401 - Celery has no types
    """Return a Celery application that consumes from `queues` and may send to any queue of ours.

    Raises:
        ConfigError: the broker is not a single Redis (a cluster cannot carry Celery's queues).
    """
    from celery import Celery
    from kombu import Exchange, Queue
    from kombu.transport import redis as _transport  # noqa: F401 - kombu's own late imports race between threads

    _survive_malformed_messages()
    if not settings.broker.startswith(("redis://", "rediss://", "redis+socket://", "sentinel://")):
        raise ConfigError("broker_url: npuq takes redis://, rediss://, redis+socket:// and sentinel://")
    app = Celery("npuq", broker=settings.broker, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_channel_error_retry=True,
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "socket_timeout": SOCKET_TIMEOUT_SECONDS,
            "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 5,
            "visibility_timeout": 3600,
        },
        enable_utc=True,
        result_backend=None,
        task_acks_late=False,
        task_create_missing_queues=False,
        task_default_queue=queues[0],
        task_ignore_result=True,
        task_publish_retry=False,
        task_queues=[Queue(name, Exchange("npuq", type="direct"), routing_key=name) for name in queues],
        task_reject_on_worker_lost=False,
        task_serializer="json",
        worker_disable_prefetch=False,
        worker_enable_remote_control=False,
        worker_eta_task_limit=10,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        worker_soft_shutdown_timeout=settings.timing.drain_seconds,
    )
    return app


def consume(app: Any, queue: str, name: str, *, concurrency: int) -> None:  # noqa: ANN401 - Celery has no types
    """Handle the messages of a queue until SIGTERM, in threads: the work itself is done in child processes.

    Celery's own worker, without its command line, which imports a shell and a terminal library: a fifth of
    a start (`python -m benchmarks start`).

    Args:
        app: from `make_app`.
        queue: one of those that the application was made for.
        name: of this worker in Celery's logs.
        concurrency: messages handled at once.
    """
    from celery.utils.nodenames import default_nodename, host_format

    worker = app.Worker(
        hostname=host_format(default_nodename(f"{name}@%h")),
        queues=[queue],
        pool_cls="threads",
        concurrency=concurrency,
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()


@cache
def _survive_malformed_messages() -> None:
    """Let consumers drop list entries that are no messages.

    Kombu parses what it pops outside of any handler: one malformed entry ends the whole worker, and a scheduler with
    it. Patched at the base class, so that Sentinel's channel has it too.
    """
    from kombu.transport import redis as transport

    read: Callable[..., bool] = transport.Channel._brpop_read  # noqa: SLF001 - there is no public seam

    def read_or_drop(channel: object, **options: Any) -> bool:  # noqa: ANN401 - passed through
        try:
            return read(channel, **options)
        except _NOT_A_MESSAGE as error:
            log.warning("message_unreadable", reason=f"{type(error).__name__}: {error}"[:200])
            raise Empty from error  # what the event loop expects when there is nothing to handle

    transport.Channel._brpop_read = read_or_drop  # noqa: SLF001


class Sender:
    """Rings doorbells. Not safe for several threads at once; every process has its own."""

    def __init__(self, settings: Settings) -> None:
        self._app = make_app(settings)
        self._redis = redis_client(settings)

    def send(self, task: str, queue: str, payload: Any) -> None:  # noqa: ANN401 - JSON
        """Send one message; raises BrokerError when Redis cannot be reached."""
        from kombu import Exchange, Queue
        from kombu.exceptions import KombuError
        from redis.exceptions import RedisError

        target = Queue(queue, Exchange("npuq", type="direct"), routing_key=queue)
        try:
            self._redis.ping()  # fails at once, where kombu would try again for seconds
            with self._app.producer_pool.acquire(block=True, timeout=CONNECT_TIMEOUT_SECONDS) as producer:
                self._app.send_task(task, args=[payload], producer=producer, declare=[target], queue=target)
        except (KombuError, RedisError, OSError) as error:
            raise BrokerError(f"cannot reach Redis ({error}); is the fleet up? see: npuq status") from error

    def wake(self) -> None:
        """Tell the scheduler that something changed; losing this costs one tick, so errors are not raised."""
        from redis.exceptions import RedisError

        try:
            self._redis.lpush(WAKE_KEY, "1")
            self._redis.ltrim(WAKE_KEY, 0, 0)
        except (RedisError, OSError):
            return

    def wait(self, seconds: float) -> bool:
        """Wait for a wake-up, at most `seconds`; raises BrokerError when Redis cannot be reached."""
        from redis.exceptions import RedisError

        try:
            return self._redis.blpop([WAKE_KEY], timeout=seconds) is not None
        except (RedisError, OSError) as error:
            raise BrokerError(f"cannot reach Redis ({error})") from error

    def close(self) -> None:
        """Close the connections."""
        self._app.close()
        self._redis.close()


def redis_client(settings: Settings) -> "redis.Redis":
    """Return a plain client of the broker, with the same limits."""
    import redis

    url = settings.broker.replace("redis+socket://", "unix://", 1)
    return redis.Redis.from_url(
        url,
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        health_check_interval=5,
    )
