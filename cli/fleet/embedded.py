"""A fleet on this machine: server, schema, scheduler and worker, started in this order and ended in the other.

Everything is under NPUQ_HOME and survives down and up. One `up` or `down` at a time (a lock that the kernel frees);
what runs already is left running, what crashed is started again, and no foreign process is ever touched.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select

from cli.fleet import broker_server, emulated
from cli.fleet.emulated import Emulation
from cli.fleet.processes import ProcessRecord, ProcessTable, last_lines
from db import devices, leadership, schema
from db.engine import Database, open_database
from db.types import db_now
from npuq.config import Settings
from npuq.errors import InvalidRequestError, NpuqError
from npuq.states import DeviceKind, DeviceState

SCHEDULER: Final = "scheduler"
WORKER: Final = "worker"
#: In the order of starting.
ROLES: Final = (broker_server.NAME, SCHEDULER, WORKER)
POLL_SECONDS: Final = 0.05
LOG_LINES: Final = 15
Say = Callable[[str], None]


class FleetStartError(NpuqError):
    """A part of the fleet did not come up; its last log lines are the detail."""

    code = "fleet_start"


@dataclass(frozen=True, kw_only=True)
class ProcessStatus:
    """One role's process, None when it is not running."""

    role: str
    record: ProcessRecord | None


class EmbeddedFleet:
    """The fleet of one NPUQ_HOME. `say` is told what happens, a line at a time."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self._settings = settings
        self._say = say
        self._table = ProcessTable(settings.home / "run", settings.home / "log")

    def up(self, emulation: Emulation | None, *, timeout_seconds: float) -> bool:
        """Start what is not running and wait until the fleet answers; returns False when all of it ran already.

        Raises:
            InvalidRequestError: a worker with other cards is running.
            FleetStartError: a part did not come up in time.
        """
        home = self._settings.home
        for folder in (home, home / "run", home / "log"):
            folder.mkdir(parents=True, exist_ok=True)
        with self._lock():
            running = self._table.find(WORKER)
            if running is not None:
                _refuse_other_cards(running, emulation)
            deadline = time.monotonic() + timeout_seconds
            started = [
                self._start_server(deadline),
                self._start_scheduler(deadline),
                self._start_worker(emulation, deadline),
            ]
        return any(started)

    def down(self) -> list[str]:
        """End what an `up` of this home started, in the order worker, scheduler, server; returns the roles ended."""
        if not (self._settings.home / "run").is_dir():
            return []
        timing = self._settings.timing
        ended = []
        with self._lock():
            self._find_orphan()
            for role in reversed(ROLES):
                grace = timing.drain_seconds + timing.kill_wait_seconds if role == WORKER else timing.kill_wait_seconds
                if self._table.end(role, grace_seconds=grace):
                    self._say(f"stopped {role}")
                    ended.append(role)
        return ended

    def processes(self) -> list[ProcessStatus]:
        """Return each role of this home with its process."""
        roles = ROLES if self._settings.broker_url is None else ROLES[1:]
        return [ProcessStatus(role=role, record=self._table.find(role)) for role in roles]

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self._settings.home / "run" / "fleet.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._say("waiting for another npuq up or down of this home")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # --- the parts, in order ---

    def _start_server(self, deadline: float) -> bool:
        settings, name = self._settings, broker_server.NAME
        if settings.broker_url is not None or self._table.find(name) is not None:
            return False
        broker_server.prepare_folders(settings)
        command = broker_server.server_command(settings)
        orphan = broker_server.answering_pid(settings)
        if orphan is not None:
            if not broker_server.serves_our_data(settings):
                raise FleetStartError(
                    f"another server (pid {orphan}) answers on {settings.broker_socket}; stop it, or use another --home"
                )
            self._adopt_server(orphan)
            return False
        self._table.start(name, command, environment=os.environ, folder=settings.home)
        self._await(name, lambda: broker_server.answering_pid(settings) is not None, deadline, "answers")
        return True

    def _adopt_server(self, pid: int) -> None:
        """Keep a record again of a server that an earlier `up` of this home started."""
        self._table.adopt(broker_server.NAME, pid, command=broker_server.server_command(self._settings))

    def _find_orphan(self) -> None:
        """Adopt the server of this home's data if its record was lost."""
        if self._settings.broker_url is not None or self._table.find(broker_server.NAME) is not None:
            return
        orphan = broker_server.answering_pid(self._settings)
        if orphan is not None and broker_server.serves_our_data(self._settings):
            self._adopt_server(orphan)

    def _start_scheduler(self, deadline: float) -> bool:
        if self._table.find(SCHEDULER) is not None:
            return False
        with self._open_database() as database:
            schema.upgrade(database)
            before = self._former_leader(database)
            self._start_role(SCHEDULER, os.environ)

            def leads() -> bool:
                with database.read() as connection:
                    return leadership.leader(connection) not in {None, before}

            self._await(SCHEDULER, leads, deadline, "leads")
        return True

    def _former_leader(self, database: Database) -> str | None:
        """Return who leads elsewhere; in this machine's own database that can only be one that crashed: it resigns."""
        with database.write() as connection:
            before = leadership.leader(connection)
            if before is not None and self._settings.database_url is None:
                leadership.resign(connection, before)
                return None
        return before

    def _start_worker(self, emulation: Emulation | None, deadline: float) -> bool:
        if self._table.find(WORKER) is not None:
            return False
        environment: Mapping[str, str] = os.environ
        if emulation is not None:
            emulator_home = emulated.home_of(self._settings)
            emulated.install(emulator_home, emulation)
            environment = emulated.environment(emulator_home, os.environ)
        with self._open_database() as database:
            with database.read() as connection:
                began: datetime = connection.execute(select(db_now())).scalar_one()
            self._start_role(WORKER, environment, emulation)
            wanted = 1 if emulation is None else emulation.cards
            kind = None if emulation is None else DeviceKind.NPU
            self._await(WORKER, lambda: self._online(database, kind, began) >= wanted, deadline, "has its devices")
            chips = self._online(database, DeviceKind.NPU, began)
            self._say(f"chips: {chips}" if chips else "chips: none; npu-smi shows none here (npuq up --emulate 2 does)")
        return True

    def _start_role(self, role: str, surroundings: Mapping[str, str], emulation: Emulation | None = None) -> None:
        from worker.interpreter import program_command

        self._table.start(
            role,
            [*program_command("cli.main"), role],
            environment={**surroundings, **self._settings.as_environment()},
            folder=self._settings.home,
            facts={"cards": None if emulation is None else emulation.describe()},
        )

    def _online(self, database: Database, kind: DeviceKind | None, since: datetime) -> int:
        with database.read() as connection:
            found = devices.find(connection, suspect_seconds=self._settings.timing.suspect_seconds, kind=kind)
        working = {DeviceState.ONLINE, DeviceState.BUSY, DeviceState.DRAINING, DeviceState.QUARANTINED}
        return sum(device.state in working and device.seen_at >= since for device in found)

    def _await(self, role: str, ready: Callable[[], bool], deadline: float, what: str) -> None:
        """Wait until a started part is ready.

        Raises:
            FleetStartError: it ended, or was not ready in time; what it said last is the detail.
        """
        log = self._table.log_path(role)
        while not ready():
            ended = self._table.find(role) is None
            if ended or time.monotonic() > deadline:
                problem = f"{role} ended at once" if ended else f"{role} runs, but it is not so in time that it {what}"
                raise FleetStartError(f"{problem}; its log is {log}", detail=last_lines(log, LOG_LINES))
            time.sleep(POLL_SECONDS)
        self._say(f"{role} {what}")

    @contextmanager
    def _open_database(self) -> Iterator[Database]:
        database = open_database(self._settings.database)
        try:
            yield database
        finally:
            database.dispose()


def _refuse_other_cards(running: ProcessRecord, emulation: Emulation | None) -> None:
    cards = running.facts.get("cards")
    wanted = None if emulation is None else emulation.describe()
    if wanted is not None and cards != wanted:
        raise InvalidRequestError(
            f"a fleet with {cards or 'real cards'} is running here, asked was one with {wanted}; run: npuq down"
        )
