"""How each fault is done to a running fleet. Who was ended comes back through the launcher or the driver."""

import os
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

import psutil
from redis.exceptions import RedisError
from sqlalchemy import select

from cli.fleet import broker_server
from db import jobs
from db.tables import Attempt, Device, Job
from npuq.errors import BrokerError, DatabaseError
from npuq.states import ACTIVE_ATTEMPT_STATES, FINAL_JOB_STATES, AttemptState, DeviceKind
from tests.chaos.evidence import AttemptRow
from tests.chaos.messages import Messages
from tests.chaos.schedule import FaultKind, PlannedFault
from tests.fleet.fleet import Fleet

QUERY_LIMIT: Final = 300


@dataclass(frozen=True, kw_only=True)
class _Stopped:
    process: psutil.Process
    until: float


class Arena:
    """A fleet and everything that is done to it. One thread uses it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.messages = Messages(fleet.settings)
        self.cancelled: set[str] = set()
        self._stopped: list[_Stopped] = []

    def strike(self, fault: PlannedFault, now: float) -> str | None:
        """Do it; returns whom it hit, None when there was nothing to hit or a service needed for it is away."""
        try:
            return _STRIKES[fault.kind](self, Random(fault.seed), now)
        except (RedisError, BrokerError, DatabaseError, psutil.NoSuchProcess):
            return None

    def turn(self, now: float) -> None:
        """Wake who was stopped long enough and deliver what was held back."""
        for stopped in [stopped for stopped in self._stopped if stopped.until <= now]:
            self._stopped.remove(stopped)
            _wake(stopped.process)
        try:
            self.messages.remember()
            self.messages.deliver(now)
        except RedisError:
            return  # away; next turn

    def calm(self) -> None:
        """Wake everybody and let go of the broker."""
        for stopped in self._stopped:
            _wake(stopped.process)
        self._stopped.clear()

    def close(self) -> None:
        """Wake everybody and close the connections."""
        self.calm()
        self.messages.close()

    # --- the faults; each returns whom it hit ---

    def kill_worker(self, random: Random, _now: float) -> str | None:
        """SIGKILL a Celery worker."""
        return _kill_one(self.fleet.workers(), random)

    def kill_child(self, random: Random, _now: float) -> str | None:
        """SIGKILL a device process, or the process of a host job."""
        return _kill_one(self.fleet.device_processes(), random)

    def kill_launcher(self, _random: Random, _now: float) -> str | None:
        """SIGKILL the launcher."""
        return "launcher" if self.fleet.launcher.kill() else None

    def kill_scheduler(self, random: Random, _now: float) -> str | None:
        """SIGKILL one scheduler."""
        scheduler = random.choice(self.fleet.schedulers)
        return scheduler.name if scheduler.kill() else None

    def kill_schedulers(self, _random: Random, _now: float) -> str | None:
        """SIGKILL all schedulers."""
        killed = [scheduler.name for scheduler in self.fleet.schedulers if scheduler.kill()]
        return ", ".join(killed) or None

    def stop_scheduler(self, random: Random, now: float) -> str | None:
        """SIGSTOP a scheduler until well after its lead is over."""
        pid = random.choice(self.fleet.schedulers).pid
        return None if pid is None else self._stop(psutil.Process(pid), now + random.uniform(2.0, 5.0))

    def stop_worker(self, random: Random, now: float) -> str | None:
        """SIGSTOP a worker until well after its lease is over; its chip goes on."""
        workers = self.fleet.workers()
        lease = self.fleet.plan.timing.lost_seconds
        return self._stop(random.choice(workers), now + lease * random.uniform(1.2, 2.0)) if workers else None

    def _stop(self, process: psutil.Process, until: float) -> str:
        process.suspend()
        self._stopped.append(_Stopped(process=process, until=until))
        return str(process.pid)

    def kill_redis(self, _random: Random, _now: float) -> str | None:
        """SIGKILL the broker."""
        return "redis" if self.fleet.redis.kill() else None

    def wipe_redis(self, _random: Random, _now: float) -> str | None:
        """SIGKILL the broker and delete its data."""
        if not self.fleet.redis.kill():
            return None
        folder = broker_server.data_folder(self.fleet.settings)
        shutil.rmtree(folder)
        folder.mkdir()
        return "redis"

    def flush_redis(self, _random: Random, _now: float) -> str | None:
        """FLUSHALL."""
        self.messages.flush()
        return "redis"

    def kill_postgresql(self, random: Random, _now: float) -> str | None:
        """End PostgreSQL without a checkpoint: SIGKILL, or SIGQUIT as `pg_ctl -m immediate` sends it."""
        if self.fleet.postgresql is None:
            return None
        number = random.choice((signal.SIGKILL, signal.SIGQUIT))
        return number.name if self.fleet.postgresql.program.send(number) else None

    def double_messages(self, _random: Random, _now: float) -> str | None:
        """Ring every active doorbell twice more."""
        return str(self.messages.double(self._attempts(active=True)))

    def steal_messages(self, _random: Random, now: float) -> str | None:
        """Take messages away for some seconds."""
        queues = [f"npuq.device.{device}" for device in self._chips()]
        return str(self.messages.steal(queues, now, _random))

    def replay_messages(self, random: Random, _now: float) -> str | None:
        """Send old messages again."""
        return str(self.messages.replay(self._attempts(active=False), random, 20))

    def forge_messages(self, random: Random, _now: float) -> str | None:
        """Send what nobody sent."""
        chips = self._chips()
        return str(self.messages.forge(self._attempts(active=False), chips, random)) if chips else None

    def cancel_job(self, random: Random, _now: float) -> str | None:
        """Cancel an open job, as a person does."""
        database = self.fleet.client.database
        with database.read() as connection:
            query = select(Job.id).where(Job.state.not_in(FINAL_JOB_STATES), Job.kind == "benchmark")
            open_jobs = sorted(connection.execute(query.limit(QUERY_LIMIT)).scalars())
        if not open_jobs:
            return None
        job_id = random.choice(open_jobs)
        self.cancelled.add(job_id)  # before the call: its answer may be lost
        state = database.transact(lambda connection: jobs.request_cancel(connection, job_id), patience_seconds=1.0)
        return f"{job_id} {state}"

    def _chips(self) -> list[str]:
        with self.fleet.client.database.read() as connection:
            return sorted(connection.execute(select(Device.id).where(Device.kind == DeviceKind.NPU)).scalars())

    def _attempts(self, *, active: bool) -> list[AttemptRow]:
        query = select(Attempt.__table__).order_by(Attempt.created_at.desc()).limit(QUERY_LIMIT)
        if active:
            query = query.where(Attempt.state.in_(ACTIVE_ATTEMPT_STATES))
        with self.fleet.client.database.read() as connection:
            return [
                AttemptRow(
                    job_id=row.job_id,
                    number=row.number,
                    device_id=row.device_id,
                    state=AttemptState(row.state),
                    created_at=row.created_at,
                )
                for row in connection.execute(query)
            ]


def _kill_one(processes: list[psutil.Process], random: Random) -> str | None:
    if not processes:
        return None
    process = random.choice(processes)
    process.kill()
    return str(process.pid)


def _wake(process: psutil.Process) -> None:
    if process.is_running():
        os.kill(process.pid, signal.SIGCONT)


_STRIKES: Final[Mapping[FaultKind, Callable[[Arena, Random, float], str | None]]] = {
    kind: getattr(Arena, kind.value) for kind in FaultKind
}
