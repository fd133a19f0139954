"""The scheduler's process: the loop in a thread of its own, and a Celery worker that takes submissions.

The loop does not need Redis: with the broker away it still settles, reaps and plans, and rings the doorbells when it
is back.
"""

import signal
import threading
from typing import Any, Final

from db import schema
from db.artifacts import ArtifactStore
from db.engine import Database, open_database
from npuq import log as logs
from npuq.celery_app import Sender, consume, make_app
from npuq.config import Settings, load_settings
from npuq.errors import BrokerError, DatabaseError, NpuqError
from npuq.log import get_logger
from npuq.messages import SUBMIT_QUEUE, SUBMIT_TASK
from scheduler import intake
from scheduler.loop import Loop

PAUSE_AFTER_ERROR_SECONDS: Final = 1.0
EXIT_TROUBLE: Final = 3
log = get_logger(__name__)


class LoopThread:
    """Runs the loop until it is stopped; an error costs one tick and a log line."""

    def __init__(self, loop: Loop, sender: Sender, tick_seconds: float) -> None:
        self._loop = loop
        self._sender = sender
        self._tick_seconds = tick_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconcile", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the tick that is under way, and resign."""
        self._stop.set()
        self._sender.wake()
        self._thread.join(timeout=10.0)
        try:
            self._loop.resign()
        except NpuqError as error:
            log.warning("resign_failed", reason=str(error))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                moved = self._loop.run_once()
            except DatabaseError as error:
                log.warning("tick_failed", reason=str(error))
                self._stop.wait(PAUSE_AFTER_ERROR_SECONDS)
                continue
            except Exception:  # the loop must outlive every surprise; the next tick sees the same rows again
                log.exception("tick_failed")
                self._stop.wait(PAUSE_AFTER_ERROR_SECONDS)
                continue
            if not moved:
                self._pause()

    def _pause(self) -> None:
        try:
            self._sender.wait(self._tick_seconds)
        except BrokerError:
            self._stop.wait(self._tick_seconds)


def build_app(settings: Settings, database: Database, sender: Sender) -> Any:  # noqa: ANN401 - Celery has no types
    """Return the Celery application that takes `npuq.submit`."""
    app = make_app(settings, queues=(SUBMIT_QUEUE,))

    @app.task(name=SUBMIT_TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def submit(payload: object) -> None:
        intake.accept(database, payload)
        sender.wake()

    return app


def serve(settings: Settings) -> int:
    """Schedule until SIGTERM or SIGINT; returns the exit code."""
    database = open_database(settings.database)
    schema.require(database)
    cache = settings.home / "cache" / "artifacts"
    store = ArtifactStore(settings.store, cache, cache_bytes=settings.artifact_cache_bytes)
    thread = LoopThread(
        Loop(settings, database, store, Sender(settings)), Sender(settings), settings.timing.tick_seconds
    )
    app = build_app(settings, database, Sender(settings))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asked_to_stop = _watch_shutdown()
    thread.start()
    log.info("scheduler_started")
    try:
        consume(app, SUBMIT_QUEUE, "npuq-scheduler", concurrency=1)
    finally:
        thread.stop()
        database.dispose()
        log.info("scheduler_stopped")
    if not asked_to_stop.is_set():
        log.error("scheduler_ended_by_itself")  # Celery has logged why; a service manager starts us again
        return EXIT_TROUBLE
    return 0


def _watch_shutdown() -> threading.Event:
    """Return an event that is set when Celery is told to stop, and is not when it gives up by itself."""
    from celery.signals import worker_shutting_down

    asked = threading.Event()

    @worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def note(**_details: Any) -> None:  # noqa: ANN401 - Celery's signal protocol
        asked.set()

    return asked


def main(argv: list[str]) -> int:  # noqa: ARG001 - all our programs share this shape
    """Run as a program of its own, with settings from the environment."""
    logs.configure()
    return serve(load_settings())
