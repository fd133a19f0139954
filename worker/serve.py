"""One Celery worker: pinned to one chip, or to the slots of one host. The launcher starts it and keeps it alive."""

import argparse
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Final

import psutil

from db import devices, schema
from db.artifacts import ArtifactStore
from db.engine import Database, open_database
from db.records import Assignment, DeviceRecord
from npuq import log as logs
from npuq.celery_app import Sender
from npuq.config import Settings, load_settings
from npuq.errors import DeviceBusyError, NpuqError
from npuq.log import get_logger
from npuq.messages import device_queue, host_queue
from npuq.states import DeviceKind
from tasks.atc_environment import compile_processes, slot_environment
from worker.app import build_app, worker_arguments
from worker.child import Child, ChildConfig
from worker.locks import DeviceLock, lock_folder
from worker.parent_death import die_with_parent
from worker.runner import ChildSource, Runner
from worker.workspace import device_ref

EXIT_TROUBLE: Final = 3
CHILD_END_SECONDS: Final = 5.0
log = get_logger(__name__)


class KeptChild:
    """The device process of one chip: started early, kept between jobs, replaced when it is gone."""

    def __init__(self, settings: Settings, lock: DeviceLock, feeders: int) -> None:
        self._settings = settings
        self._lock = lock
        self._feeders = feeders
        self._child: Child | None = None

    def __call__(self, assignment: Assignment) -> Child:
        """Return the living child of the assignment's chip."""
        return self.ensure(assignment.device, assignment)

    def ensure(self, device: DeviceRecord, assignment: Assignment | None = None) -> Child:
        """Return the living child, starting one if there is none."""
        if self._child is None or not self._child.alive:
            self.end()
            self._child = Child(_config(self._settings, device, self._lock, self._feeders, assignment=assignment))
            self._child.start()
        return self._child

    def end(self) -> None:
        """End the child and everything it started."""
        if self._child is not None:
            self._child.end(CHILD_END_SECONDS)
            self._child = None


def _config(
    settings: Settings,
    device: DeviceRecord,
    lock: DeviceLock,
    feeders: int,
    *,
    env: Mapping[str, str] = os.environ,
    assignment: Assignment | None = None,
) -> ChildConfig:
    name = device.device_id if assignment is None else f"{device.device_id}/{assignment.job_id[:8]}"
    return ChildConfig(
        name=name,
        device=device_ref(device),
        lock_fd=lock.descriptor,
        env=env,
        feeders=feeders,
        sample_cache=settings.home / "cache" / "samples",
        sample_cache_bytes=settings.sample_cache_bytes,
        tool_timeout_seconds=settings.timing.tool_timeout_seconds,
        npu_smi_lock=lock_folder(settings.home, emulated=device.emulated) / "npu-smi.lock",
    )


def fresh_children(settings: Settings, lock: DeviceLock, slots: int) -> ChildSource:
    """Return a source of one child per attempt, for host work: nothing of torch or ATC stays in memory.

    Each of the `slots` attempts that may run at once has its share of the host's cores and memory.
    """
    processes = compile_processes(
        cores=os.cpu_count() or 1, memory_bytes=psutil.virtual_memory().total, slots=max(1, slots)
    )
    env = slot_environment(os.environ, processes)

    def start(assignment: Assignment) -> Child:
        child = Child(_config(settings, assignment.device, lock, 0, env=env, assignment=assignment))
        child.start()
        return child

    return start


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
    store = ArtifactStore(settings.store, settings.home / "cache" / "artifacts")
    kept = None if chip is None else KeptChild(settings, lock, feeders)
    children = fresh_children(settings, lock, len(device_ids)) if kept is None else kept
    runner = Runner(settings, database, store, Sender(settings), device_ids, children)
    runner.take_over()
    if kept is not None and chip is not None:
        kept.ensure(chip)
    queue = host_queue(host) if chip is None else device_queue(chip.device_id)
    app = build_app(settings, queue, runner.handle, runner.drain)
    log.info("worker_started", queue=queue)
    try:
        app.worker_main(worker_arguments(queue, lock_name, len(device_ids)))
    finally:
        if kept is not None:
            kept.end()
        database.dispose()
        lock.release()
        log.info("worker_stopped", queue=queue)
    return 0


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
