"""One Celery worker: pinned to one chip, or to the slots of one host. The launcher starts it and keeps it alive."""

import argparse
import signal
from collections.abc import Sequence
from typing import Final

from db import devices, schema
from db.artifacts import ArtifactStore
from db.engine import Database, open_database
from db.records import DeviceRecord
from npuq import log as logs
from npuq.celery_app import Sender, consume
from npuq.config import Settings, load_settings
from npuq.errors import DeviceBusyError, NpuqError
from npuq.log import get_logger
from npuq.messages import device_queue, host_queue
from npuq.states import DeviceKind
from worker.app import build_app
from worker.children import FreshChildren, KeptChild
from worker.locks import DeviceLock, lock_folder
from worker.parent_death import die_with_parent
from worker.runner import ChildSource, Runner

EXIT_TROUBLE: Final = 3
log = get_logger(__name__)


def serve(settings: Settings, host: str, device_ids: Sequence[str], *, feeders: int) -> int:
    """Work until SIGTERM; returns the exit code.

    Args:
        settings: the fleet.
        host: this host's id.
        device_ids: one chip, or all slots of the host.
        feeders: feeder processes beside the chip.
    """
    database = open_database(settings.database)
    schema.require(database)
    records = _records(database, settings, device_ids)
    chip = records[0] if records[0].kind is DeviceKind.NPU else None
    lock_name = host if chip is None else chip.device_id
    lock = DeviceLock(lock_folder(settings.home, emulated=chip is None or chip.emulated), lock_name)
    lock.acquire(settings.timing.lost_seconds)
    store = ArtifactStore(
        settings.store, settings.home / "cache" / "artifacts", cache_bytes=settings.artifact_cache_bytes
    )
    kept = None if chip is None else KeptChild(settings, lock, chip, feeders)
    children: ChildSource = FreshChildren(settings, lock, len(device_ids)) if kept is None else kept
    runner = Runner(settings, database, store, Sender(settings), device_ids, children)
    runner.take_over()
    if kept is not None:
        kept()
    queue = host_queue(host) if chip is None else device_queue(chip.device_id)
    app = build_app(settings, queue, runner.handle, runner.drain)
    log.info("worker_started", queue=queue)
    try:
        consume(app, queue, lock_name, concurrency=len(device_ids))
    finally:
        _end_quietly(kept)
        database.dispose()
        lock.release()
        log.info("worker_stopped", queue=queue)
    return 0


def _end_quietly(kept: KeptChild | None) -> None:
    try:
        if kept is not None:
            kept.end()
    except NpuqError as error:
        log.warning("child_left", reason=str(error))


def _records(database: Database, settings: Settings, device_ids: Sequence[str]) -> list[DeviceRecord]:
    with database.read() as connection:
        return [
            devices.get(connection, device_id, suspect_seconds=settings.timing.suspect_seconds)
            for device_id in device_ids
        ]


def main(argv: Sequence[str]) -> int:
    """Run as a program of its own, with settings from the environment."""
    parser = argparse.ArgumentParser(prog="npuq worker (one device)")
    parser.add_argument("--host", required=True)
    parser.add_argument("--parent-pid", required=True, type=int)
    parser.add_argument("--feeders", required=True, type=int)
    parser.add_argument("devices", nargs="+")
    options = parser.parse_args(list(argv))
    die_with_parent(options.parent_pid, signal.SIGTERM)
    logs.configure()
    try:
        return serve(load_settings(), options.host, options.devices, feeders=options.feeders)
    except DeviceBusyError as error:
        log.warning("device_held", reason=str(error))
        return EXIT_TROUBLE
    except NpuqError as error:
        log.warning("worker_failed", reason=str(error))
        return EXIT_TROUBLE
