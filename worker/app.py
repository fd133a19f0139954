"""The Celery application of a worker: one task, one queue, early acknowledgement."""

from collections.abc import Callable
from typing import Any

from npuq.celery_app import make_app
from npuq.config import Settings
from npuq.messages import RUN_ATTEMPT_TASK


def build_app(settings: Settings, queue: str, handle: Callable[[Any], None], drain: Callable[[], None]) -> Any:  # noqa: ANN401 - Celery has no types
    """Return the application that consumes one queue.

    Args:
        settings: where the broker is.
        queue: a device's or a host's.
        handle: called with the payload of each doorbell, in a thread of the pool.
        drain: called when Celery begins its warm shutdown; returns at once.
    """
    from celery.signals import worker_shutting_down

    app = make_app(settings, queues=(queue,))

    @app.task(name=RUN_ATTEMPT_TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def run_attempt(payload: Any) -> None:  # noqa: ANN401 - untrusted
        handle(payload)

    @worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def begin_to_drain(**_details: Any) -> None:  # noqa: ANN401 - Celery's signal protocol
        drain()

    return app
