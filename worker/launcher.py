"""One per host: finds the chips, registers them, and keeps one Celery worker per chip and one for host work alive.

It owns no job and no lease. Whatever it restarts waits for the lock of its device, so that a chip never has two
owners, however confused the processes are.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

from sqlalchemy import Connection

from db import devices, schema
from db.engine import Database, open_database
from db.records import NewDevice
from npuq import log as logs
from npuq.config import Settings, load_settings
from npuq.errors import DatabaseError, NpuqError
from npuq.log import get_logger
from tasks.ascend_signals import OWN_FILE_NAME, OWN_FILE_VARIABLE, Tool, signals
from worker import discovery
from worker.chip_probe import ChipLook, ChipProbe
from worker.emulated_tools import has_emulated_chips
from worker.health_watch import HealthWatch
from worker.interpreter import program_command
from worker.locks import lock_folder
from worker.npu_smi_tool import NpuSmi

BACKOFF_CAP_SECONDS: Final = 60.0
HEALTHY_SECONDS: Final = 60.0
"""A worker that lived this long begins its back-off anew."""
log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """One worker process to keep alive: a chip, or all slots of the host."""

    name: str
    devices: tuple[str, ...]
    feeders: int


class WorkerProcess:
    """Keeps one worker process alive, with back-off."""

    def __init__(self, spec: WorkerSpec, host: str) -> None:
        self.spec = spec
        self._host = host
        self._process: subprocess.Popen[bytes] | None = None
        self._started = float("-inf")
        self._failures = 0

    @property
    def pid(self) -> int | None:
        """Return the process id, None while it is not running."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def runs_since(self, now: float) -> float:
        """Return for how many seconds it has been running; 0 while it is not. `now` is monotonic."""
        return 0.0 if self.pid is None else now - self._started

    def tend(self, now: float) -> None:
        """Start the process if it is not there and its back-off is over."""
        if self.pid is not None:
            return
        if self._process is not None:
            self._mourn(now)
        if now < self._started + self._backoff():
            return
        self._process = subprocess.Popen(
            [
                *program_command("worker.serve"),
                "--host",
                self._host,
                "--parent-pid",
                str(os.getpid()),
                "--feeders",
                str(self.spec.feeders),
                *self.spec.devices,
            ],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._started = now

    def _mourn(self, now: float) -> None:
        code = self._process.returncode if self._process is not None else None
        self._failures = 0 if now - self._started > HEALTHY_SECONDS else self._failures + 1
        log.warning("worker_died", worker=self.spec.name, exit_code=code, backoff_seconds=self._backoff())
        self._process = None

    def _backoff(self) -> float:
        return 0.0 if self._failures == 0 else min(BACKOFF_CAP_SECONDS, 0.5 * 2.0 ** (self._failures - 1))

    def kill(self) -> None:
        """End the process at once: it is silent, perhaps stopped, and would not hear TERM."""
        if self.pid is not None and self._process is not None:
            self._process.kill()
            self._process.wait()

    def ask_to_end(self) -> None:
        """Ask the process to finish or hand back its job and end."""
        if self.pid is not None and self._process is not None:
            self._process.terminate()

    def wait_ended(self, deadline: float) -> None:
        """Wait until the process has ended; after the deadline it is killed."""
        if self._process is None:
            return
        try:
            self._process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("worker_killed", worker=self.spec.name)
            self.kill()


class Launcher:
    """The host's share of the fleet."""

    def __init__(self, settings: Settings, database: Database, npu_smi: NpuSmi) -> None:
        self._settings = settings
        self._database = database
        self._host = discovery.host_id(settings)
        self._workers: dict[str, WorkerProcess] = {}
        self._next_probe = float("-inf")
        self._failed_probes = 0
        self._chip_probe = ChipProbe(settings, npu_smi)
        self._health = HealthWatch(database, self._host, settings.timing.suspect_seconds)
        self._chips: Sequence[NewDevice] = ()
        self._registered = False

    def run_once(self) -> None:
        """Beat, look at the chips when it is time, restart what is dead or silent."""
        now = time.monotonic()
        try:
            if self._registered:  # before, the name may be another machine's
                self._beat(now)
            self._probe(now)
        except DatabaseError as error:
            log.warning("host_beat_failed", reason=str(error))
        for worker in self._workers.values():
            worker.tend(now)

    def _beat(self, now: float) -> None:
        for device_id in self._database.transact(
            lambda connection: devices.host_beat(connection, self._host),
            patience_seconds=self._settings.timing.beat_seconds,
        ):
            self._restart(device_id, now)

    def stop(self) -> None:
        """End all workers in good order: they finish or hand back what they have, and nothing new is given to them."""
        self._tell(devices.host_stopping)
        timing = self._settings.timing
        deadline = time.monotonic() + timing.drain_seconds + timing.kill_wait_seconds
        for worker in self._workers.values():
            worker.ask_to_end()
        for worker in self._workers.values():
            worker.wait_ended(deadline)
        self._tell(devices.host_silent)

    def _tell(self, what: Callable[[Connection, str], None]) -> None:
        """Tell the fleet of a stop; what cannot be told now is seen by the heartbeat that ends."""
        if not self._registered:  # the host of this name may be another machine's
            return
        try:
            self._database.transact(lambda connection: what(connection, self._host), patience_seconds=2.0)
        except DatabaseError as error:
            log.warning("goodbye_failed", reason=str(error))

    def _probe(self, now: float) -> None:
        """Begin a look at the chips when it is time, and take its answer when it is there."""
        timing = self._settings.timing
        if not self._chip_probe.looking and now >= self._next_probe:
            with self._database.read() as connection:
                known = devices.identities(connection, self._host)
            self._chip_probe.begin(known)
            self._next_probe = now + timing.probe_seconds
        look = self._chip_probe.answer(timing.beat_seconds / 2) if self._chip_probe.looking else None
        if look is not None:
            self._take(look)

    def _take(self, look: ChipLook) -> None:
        """Register what was seen; without a table the last one still counts, but says nothing of chips not in it."""
        if isinstance(look.error, NpuqError):
            self._failed_probes += 1
            log.warning("npu_smi_failed", reason=str(look.error), in_a_row=self._failed_probes)
        elif look.error is not None:
            raise look.error
        else:
            self._failed_probes, self._chips = 0, look.chips
        looked = look.error is None
        self._register(discovery.host_facts(self._settings, look.info), complete=looked)
        if look.info is not None:
            self._health.look(look.info, self._chips)
        elif not looked:
            self._health.silence(self._failed_probes)

    def _register(self, facts: Mapping[str, Any], *, complete: bool) -> None:
        slots = discovery.slots(self._settings)
        found = [*(self._chips if complete else ()), *slots]

        def write(connection: Connection) -> None:
            suspect_seconds = self._settings.timing.suspect_seconds
            devices.claim_name(connection, self._host, facts["machine"], suspect_seconds=suspect_seconds)
            devices.register(connection, self._host, facts, found, complete=complete)

        self._database.transact(write)
        self._registered = True
        self._keep_workers(self._chips, slots)

    def _keep_workers(self, chips: Sequence[NewDevice], slots: Sequence[NewDevice]) -> None:
        feeders = self._settings.feeders or max(1, (os.cpu_count() or 1) // max(1, len(chips)))
        wanted = [WorkerSpec(name=chip.device_id, devices=(chip.device_id,), feeders=feeders) for chip in chips]
        wanted.append(WorkerSpec(name="host", devices=tuple(slot.device_id for slot in slots), feeders=0))
        for spec in wanted:
            if spec.name not in self._workers:
                log.info("worker_wanted", worker=spec.name)
                self._workers[spec.name] = WorkerProcess(spec, self._host)

    def _restart(self, device_id: str, now: float) -> None:
        """Kill a worker that is silent; one that has just started has had no time to answer, or was not meant."""
        for worker in self._workers.values():
            if device_id in worker.spec.devices and worker.runs_since(now) > self._settings.timing.resend_seconds:
                log.warning("worker_restarted", worker=worker.spec.name, reason="it does not answer its doorbell")
                worker.kill()


def run(settings: Settings) -> int:
    """Keep this host's workers alive until SIGTERM or SIGINT; returns the exit code."""
    database = open_database(settings.database)
    schema.require(database)
    emulated = has_emulated_chips(os.environ)
    npu_smi = NpuSmi(
        lock_path=lock_folder(settings.home, emulated=emulated) / "npu-smi.lock",
        timeout_seconds=settings.timing.tool_timeout_seconds,
        cache_seconds=0.0,
    )
    stopping = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    os.environ.setdefault(OWN_FILE_VARIABLE, str(settings.home / OWN_FILE_NAME))
    signals(Tool.RUNTIME)  # a person's damaged table is told now, not when a job fails
    launcher = Launcher(settings, database, npu_smi)
    log.info("launcher_started", host=discovery.host_id(settings), emulated=emulated)
    while not stopping.is_set():
        try:
            launcher.run_once()
        except NpuqError as error:
            log.warning("launcher_turn_failed", reason=str(error))
        except Exception:  # it keeps the host's workers alive: no surprise may end it
            log.exception("launcher_turn_failed")
        stopping.wait(min(1.0, settings.timing.beat_seconds))
    launcher.stop()
    database.dispose()
    log.info("launcher_stopped")
    return 0


def main(argv: Sequence[str]) -> int:  # noqa: ARG001 - all our programs share this shape
    """Run as a program of its own, with settings from the environment."""
    logs.configure()
    return run(load_settings())
