"""A real fleet for tests and measurements: server, database, schedulers and a launcher with emulated chips.

Everything lies in one home and is started as `npuq` programs, as a host's service manager would. Nothing here waits
without a limit, and `close` ends every process of the home, whoever started it.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import psutil

from cli.fleet import broker_server
from db import devices, runs, schema
from npuq.client import Client
from npuq.config import Settings, Timing
from npuq.entry import INSTALLATION
from npuq.states import DeviceKind, DeviceState
from tests.fleet.postgresql import KillablePostgresql
from tests.fleet.programs import KeptProgram
from tests.fleet.warm_npuq import WarmNpuq
from tests.services.waiting import wait_until

SOC_VERSION: Final = "Ascend310P3"
START_LIMIT_SECONDS: Final = 60.0
INSTALL_LIMIT_SECONDS: Final = 60.0
EMULATOR_VARIABLE: Final = "NPUQ_EMULATOR_HOME"

_CHANGED_SCHEDULER: Final = """\
import sys
sys.path.insert(0, {installation!r})
from scheduler import main, placement, shards
{changes}
sys.exit(main.main([]))
"""

DatabaseKind = Literal["sqlite", "postgresql"]

#: A tenth and less of most of the usual waits; the lease is long enough for a machine with two busy cores. npu-smi is
#: looked at less often than usual: tests of a chip's health set a time of their own.
FAST_TIMING: Final = Timing(
    beat_seconds=0.5,
    suspect_seconds=3.0,
    lost_seconds=5.0,
    lost_long_seconds=30.0,
    resend_seconds=4.0,
    kill_wait_seconds=3.0,
    drain_seconds=2.0,
    tick_seconds=0.4,
    probe_seconds=15.0,
)


@dataclass(frozen=True, kw_only=True)
class FleetPlan:
    """What to start.

    Attributes:
        chips: emulated chips.
        chips_per_card: how many of them are on one card.
        database: of which kind.
        schedulers: how many; one leads.
        service_ms: time of one execution whatever its batch, in timed mode; None: the model is really computed.
        host_slots: conversions at once.
        timing: leases, limits and waits.
        job_timeout_seconds: no step runs longer.
        look_ahead: give a chip its next short job while one runs, as npuq does.
        least_shard: images of the smallest shard, so that few are shared by several chips; None: npuq's own.
    """

    chips: int = 2
    chips_per_card: int = 1
    database: DatabaseKind = "sqlite"
    schedulers: int = 1
    service_ms: float | None = 2.0
    host_slots: int = 2
    timing: Timing = FAST_TIMING
    job_timeout_seconds: float = 6 * 3600.0
    look_ahead: bool = True
    least_shard: int | None = None


class Fleet:
    """A running fleet; use it as a context manager.

    Args:
        home: NPUQ_HOME, an empty folder.
        plan: what to start.
    """

    def __init__(self, home: Path, plan: FleetPlan) -> None:
        self.home = home
        self.plan = plan
        self.emulator_home = home / "emulator"
        self.log_folder = home / "log"
        self.log_folder.mkdir(parents=True)
        self.postgresql = KillablePostgresql() if plan.database == "postgresql" else None
        self.settings = Settings(
            home=home,
            host_name="h1",
            host_slots=plan.host_slots,
            feeders=1,
            database_url=None if self.postgresql is None else self.postgresql.url,
            timing=plan.timing,
            job_timeout_seconds=plan.job_timeout_seconds,
        )
        npuq = str(Path(sys.executable).parent / "npuq")
        environment = self.environment
        self.redis = self._program("redis", broker_server.server_command(self.settings), environment)
        self.schedulers = [
            self._program(f"scheduler{number}", self._scheduler_command(npuq), environment)
            for number in range(plan.schedulers)
        ]
        self.launcher = self._program("launcher", [npuq, "worker"], environment)

    def _scheduler_command(self, npuq: str) -> list[str]:
        changes = [
            *([] if self.plan.look_ahead else ["placement.LOOK_AHEAD_SECONDS = -1.0"]),
            *([] if self.plan.least_shard is None else [f"shards.MIN_SAMPLES = {self.plan.least_shard}"]),
        ]
        if not changes:
            return [npuq, "scheduler"]
        program = _CHANGED_SCHEDULER.format(installation=str(INSTALLATION), changes="\n".join(changes))
        return [sys.executable, "-c", program]

    def _program(self, name: str, command: list[str], environment: Mapping[str, str]) -> KeptProgram:
        return KeptProgram(name, command, environment, self.log_folder / f"{name}.log")

    @cached_property
    def environment(self) -> dict[str, str]:
        """Return the environment in which `npuq` is part of this fleet and finds the emulated tools."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("NPUQ_")}
        emulator = self.emulator_home
        return plain | {
            **self.settings.as_environment(),
            EMULATOR_VARIABLE: str(emulator),
            "ASCEND_TOOLKIT_HOME": str(emulator / "toolkit"),
            "PATH": os.pathsep.join([str(emulator / "bin"), str(Path(sys.executable).parent), plain.get("PATH", "")]),
            # The checkout under test, also where another one is installed.
            "PYTHONPATH": os.pathsep.join([str(emulator / "python"), str(INSTALLATION)]),
        }

    @cached_property
    def client(self) -> Client:
        """Return a client of this fleet, as a laptop has it."""
        return Client(self.settings)

    def npuq(self, *arguments: str, limit_seconds: float) -> "subprocess.CompletedProcess[str]":
        """Run a command of this fleet's; raises TimeoutExpired."""
        return self._warm_npuq(arguments, limit_seconds)

    @cached_property
    def _warm_npuq(self) -> WarmNpuq:
        return WarmNpuq(self.environment)

    @property
    def services(self) -> list[KeptProgram]:
        """Return everything that a service manager would keep running."""
        database = [] if self.postgresql is None else [self.postgresql.program]
        return [self.redis, *database, *self.schedulers, self.launcher]

    # --- up and down ---

    def __enter__(self) -> Self:
        try:
            self._up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _up(self) -> None:
        self._install_emulator()
        broker_server.prepare_folders(self.settings)
        self.redis.start()
        if self.postgresql is not None:
            self.postgresql.start()
        schema.upgrade(self.client.database)
        for service in [*self.schedulers, self.launcher]:
            service.start()
        wait_until(lambda: self.working_chips() == self.plan.chips, "every chip is online", START_LIMIT_SECONDS)
        wait_until(self._has_workers, "every chip has a worker and a device process", START_LIMIT_SECONDS)

    def _install_emulator(self) -> None:
        command = [sys.executable, "-m", "emulator", "install", "--home", str(self.emulator_home)]
        cards = self.plan.chips // self.plan.chips_per_card
        command += ["--cards", str(cards), "--chips-per-card", str(self.plan.chips_per_card)]
        command += ["--chip", SOC_VERSION.removeprefix("Ascend")]
        if self.plan.service_ms is not None:
            command += ["--timed", "--service-ms", str(self.plan.service_ms), "--per-sample-ms", "0"]
        subprocess.run(command, cwd=INSTALLATION, check=True, capture_output=True, timeout=INSTALL_LIMIT_SECONDS)

    def working_chips(self) -> int:
        """Return how many chips may be given work."""
        with self.client.database.read() as connection:
            found = devices.find(connection, suspect_seconds=self.plan.timing.suspect_seconds, kind=DeviceKind.NPU)
        return sum(device.state in {DeviceState.ONLINE, DeviceState.BUSY} for device in found)

    def _has_workers(self) -> bool:
        return len(self.workers()) == self.plan.chips + 1 and len(self.device_processes()) == self.plan.chips

    def wait_accepted(self, run_id: str) -> None:
        """Wait until the scheduler has taken a submitted run."""

        def accepted() -> bool:
            with self.client.database.read() as connection:
                return runs.get(connection, run_id) is not None

        wait_until(accepted, f"run {run_id} is in the database", START_LIMIT_SECONDS)

    def stop(self) -> None:
        """End launcher and schedulers in good order: what runs is finished or handed back. The database stays."""
        timing = self.plan.timing
        self.launcher.stop(timing.drain_seconds + 2 * timing.kill_wait_seconds)
        for scheduler in self.schedulers:
            scheduler.stop(timing.kill_wait_seconds)

    def close(self) -> None:
        """End everything, also after a failure; again is harmless."""
        self.stop()
        self.redis.stop(5.0)
        self.client.close()
        self._warm_npuq.close()
        if self.postgresql is not None:
            self.postgresql.close()
            self.postgresql = None
        survivors = list(self.processes())
        for process in survivors:
            process.kill()
        psutil.wait_procs(survivors, timeout=10.0)

    # --- what runs below the launcher ---

    def processes(self, module: str | None = None) -> Iterator[psutil.Process]:
        """Yield the living processes of this home; with `module`, those that run this program of ours."""
        for process in psutil.process_iter():
            try:
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if module is not None and module not in process.cmdline():
                    continue
                if process.environ().get(EMULATOR_VARIABLE) == str(self.emulator_home):
                    yield process
            except psutil.Error:
                continue  # gone meanwhile, or not ours

    def workers(self) -> list[psutil.Process]:
        """Return the Celery workers: one per chip, one of the host."""
        return sorted(self.processes("worker.serve"), key=lambda process: process.pid)

    def device_processes(self) -> list[psutil.Process]:
        """Return the processes that own a chip, and those of host jobs."""
        return sorted(self.processes("worker.child_main"), key=lambda process: process.pid)
