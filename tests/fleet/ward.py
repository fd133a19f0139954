"""A fleet of two chips to be made sick, and what tests ask of it: as a person sees it, and as the database has it."""

import itertools
import json
import subprocess
from pathlib import Path
from typing import Any, Final

from db import devices, job_queries
from db.records import AttemptRecord, DeviceRecord, JobRecord
from emulator import __main__ as emulator
from emulator.fleet import LASTING_FAULTS
from emulator.home import Home
from npuq.states import DeviceCause, DeviceKind, DeviceState, JobKind, RunState
from tests.fleet.fleet import Fleet
from tests.fleet.models import benchmark_spec, upload, write_tiny_onnx
from tests.services.waiting import wait_until

LIMIT_SECONDS: Final = 90.0
_SEEDS: Final = itertools.count(1)


class Ward:
    """A fleet with chips to be made sick."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self._folder = folder

    def npuq(self, *arguments: str, code: int = 0) -> str:
        """Run the command line; returns stdout."""
        done = self.fleet.npuq(*arguments, limit_seconds=LIMIT_SECONDS)
        assert done.returncode == code, done.stderr
        return done.stdout

    def fault(self, *arguments: str) -> None:
        """Put a fault as a person does."""
        self.npuq("emulator", "fault", *arguments)

    def heal(self) -> None:
        """Take all faults away and wait until both chips are in service, resuming those that wait for a person."""
        seen = any(fault.kind in LASTING_FAULTS for fault in Home(self.fleet.emulator_home).fleet().faults)
        assert emulator.main(["clear", "--home", str(self.fleet.emulator_home)]) == 0
        for _ in range(2 if seen else 0):  # one look may be under way, and see what is no more
            self._wait_for_a_look()
        for device in self.chips():
            if device.state_cause in {DeviceCause.PERSON, DeviceCause.ERRORS, DeviceCause.REPEATED}:
                self.set_state(device.device_id, DeviceState.ONLINE)
        wait_until(lambda: self.fleet.working_chips() == 2, "both chips are in service", LIMIT_SECONDS)

    def _wait_for_a_look(self) -> None:
        """Wait until npu-smi has shown both chips once more."""
        before = {chip.device_id: chip.seen_at for chip in self.chips()}
        wait_until(lambda: all(chip.seen_at > before[chip.device_id] for chip in self.chips()), "a look", LIMIT_SECONDS)

    def set_state(self, device_id: str, state: DeviceState) -> None:
        """Drain or resume a chip."""
        self.fleet.client.database.transact(lambda c: devices.set_state(c, device_id, state, "test"))

    def submit(self, *, loops: int = 1, seed: int | None = None, first: str | None = None) -> str:
        """Submit a benchmark of a model that nobody has converted (with a `seed`: of that model); returns the run.

        The model may have an operator `first` of any type.
        """
        path = write_tiny_onnx(self._folder / "tiny.onnx", seed=next(_SEEDS) if seed is None else seed, first=first)
        spec = benchmark_spec(upload(self.fleet.client, path), loops=loops)
        self.fleet.client.submit(spec)
        wait_until(lambda: self.is_planned(spec.run_id), "the run is planned", LIMIT_SECONDS)
        return spec.run_id

    def ends(self, run_id: str, state: RunState) -> JobRecord:
        """Wait until a run ended so; returns its benchmark."""
        ended = self.fleet.client.wait(run_id, timeout_seconds=LIMIT_SECONDS).state
        job = self.benchmark(run_id)
        assert ended is state, job.error
        return job

    def benchmark(self, run_id: str) -> JobRecord:
        """Return the benchmark of a run."""
        return self.job(run_id, JobKind.BENCHMARK)

    def job(self, run_id: str, kind: JobKind) -> JobRecord:
        """Return the only job of a kind that a planned run has."""
        with self.fleet.client.database.read() as connection:
            (found,) = job_queries.find(connection, run_id=run_id, kind=kind)
        return found

    def is_planned(self, run_id: str) -> bool:
        """Tell whether a run has its jobs."""
        with self.fleet.client.database.read() as connection:
            return bool(job_queries.find(connection, run_id=run_id))

    def attempts(self, run_id: str, kind: JobKind = JobKind.BENCHMARK) -> list[AttemptRecord]:
        """Return the tries of a run's job, the first first."""
        with self.fleet.client.database.read() as connection:
            found = job_queries.attempts(connection, self.job(run_id, kind).job_id)
        return sorted(found, key=lambda attempt: attempt.number)

    def chips(self) -> list[DeviceRecord]:
        """Return both chips."""
        with self.fleet.client.database.read() as connection:
            return devices.find(connection, suspect_seconds=30.0, kind=DeviceKind.NPU)

    def cause(self, device_id: str) -> tuple[DeviceState, str]:
        """Return state and cause of a chip; a busy one is online."""
        record = next(device for device in self.chips() if device.device_id == device_id)
        return DeviceState.ONLINE if record.state is DeviceState.BUSY else record.state, record.state_cause

    def becomes(self, device_id: str, state: DeviceState, cause: DeviceCause) -> None:
        """Wait until a chip is in a state for a cause."""
        wait_until(lambda: self.cause(device_id) == (state, cause), f"{device_id} is {state}: {cause}", LIMIT_SECONDS)

    def npu_smi(self) -> str:
        """Return what the emulated `npu-smi info` prints now, whatever its exit code."""
        program = str(self.fleet.emulator_home / "bin" / "npu-smi")
        return subprocess.run([program, "info"], capture_output=True, text=True, check=False).stdout

    def listed(self, device_id: str) -> dict[str, Any]:
        """Return a chip as `npuq devices list` shows it to programs."""
        found: list[dict[str, Any]] = json.loads(self.npuq("devices", "list", "-o", "json"))
        return next(device for device in found if device["device_id"] == device_id)
