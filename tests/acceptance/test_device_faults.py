"""Every fault of a chip through a real fleet: what the person sees, what becomes of the chip, how the run ends.

One fleet of two chips for all tests; each test starts with both chips in service. A test that wants the fault
to meet its job drains the other chip until it has.
"""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from db import device_events, devices, job_queries
from db.records import AttemptRecord, DeviceRecord, JobRecord
from npuq.entry import INSTALLATION
from npuq.states import AttemptState, DeviceCause, DeviceKind, DeviceState, JobKind, JobState, RunState
from tests.fleet.fleet import Fleet, FleetPlan
from tests.fleet.models import benchmark_spec, upload, write_tiny_onnx
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240), pytest.mark.xdist_group("device_faults")]

LIMIT_SECONDS: Final = 90.0
STEP_LIMIT_SECONDS: Final = 15.0
FIRST: Final = "h1.npu0.0"
SECOND: Final = "h1.npu1.0"
_SEEDS: Final = itertools.count(1)


class Ward:
    """A fleet with chips to be made sick."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self._folder = folder

    def npuq(self, *arguments: str, code: int = 0) -> str:
        """Run the command line; returns stdout."""
        done = subprocess.run(
            [sys.executable, "-m", "npuq", *arguments],
            cwd=INSTALLATION,
            env=self.fleet.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    def fault(self, *arguments: str) -> None:
        """Put a fault as a person does."""
        self.npuq("emulator", "fault", *arguments)

    def heal(self) -> None:
        """Take all faults away and wait until both chips are in service, resuming those that wait for a person."""
        self.npuq("emulator", "clear")
        for device in self.chips():
            if device.state_cause in {DeviceCause.PERSON, DeviceCause.ERRORS, DeviceCause.REPEATED}:
                self.set_state(device.device_id, DeviceState.ONLINE)
        wait_until(lambda: self.fleet.working_chips() == 2, "both chips are in service", LIMIT_SECONDS)

    def set_state(self, device_id: str, state: DeviceState) -> None:
        """Drain or resume a chip."""
        self.fleet.client.database.transact(lambda c: devices.set_state(c, device_id, state, "test"))

    def submit(self, *, loops: int = 1) -> str:
        """Submit a benchmark of a model that no chip has loaded; returns the run."""
        path = write_tiny_onnx(self._folder / "tiny.onnx", seed=next(_SEEDS))
        spec = benchmark_spec(upload(self.fleet.client, path), loops=loops)
        self.fleet.client.submit(spec)
        return spec.run_id

    def ends(self, run_id: str, state: RunState) -> JobRecord:
        """Wait until a run ended so; returns its benchmark."""
        ended = self.fleet.client.wait(run_id, timeout_seconds=LIMIT_SECONDS).state
        job = self.benchmark(run_id)
        assert ended is state, job.error
        return job

    def benchmark(self, run_id: str) -> JobRecord:
        """Return the benchmark of a run."""
        with self.fleet.client.database.read() as connection:
            found = job_queries.find(connection, run_id=run_id)
        return next(job for job in found if job.kind is JobKind.BENCHMARK)

    def attempts(self, run_id: str) -> list[AttemptRecord]:
        """Return the tries of a run's benchmark, the first first."""
        with self.fleet.client.database.read() as connection:
            found = job_queries.attempts(connection, self.benchmark(run_id).job_id)
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

    def listed(self, device_id: str) -> dict[str, Any]:
        """Return a chip as `npuq devices list` shows it to programs."""
        found: list[dict[str, Any]] = json.loads(self.npuq("devices", "list", "-o", "json"))
        return next(device for device in found if device["device_id"] == device_id)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Return the module's fleet."""
    plan = FleetPlan(chips=2, service_ms=2.0, job_timeout_seconds=STEP_LIMIT_SECONDS)
    with Fleet(tmp_path_factory.mktemp("faults") / "home", plan) as fleet:
        yield fleet


@pytest.fixture
def ward(running: Fleet, tmp_path: Path) -> Ward:
    """Return the fleet with well chips."""
    ward = Ward(running, tmp_path)
    ward.heal()
    return ward


def test_a_chip_that_cannot_be_opened_is_quarantined_and_the_run_succeeds_elsewhere(ward: Ward) -> None:
    """507033 twice; the person reads why, and only the chip pays for it."""
    ward.set_state(SECOND, DeviceState.DRAINING)
    ward.fault("0", "open_failed")
    run_id = ward.submit()
    ward.becomes(FIRST, DeviceState.QUARANTINED, DeviceCause.ERRORS)
    assert "device_open 2 times" in ward.npuq("devices", "list")
    ward.set_state(SECOND, DeviceState.ONLINE)
    job = ward.ends(run_id, RunState.SUCCEEDED)
    assert (job.device_id, job.failures) == (SECOND, 0)
    assert [(each.device_id, each.error_code) for each in ward.attempts(run_id)] == [
        (FIRST, "device_open"),
        (FIRST, "device_open"),
        (SECOND, None),
    ]


def test_a_kernel_that_fails_on_two_chips_fails_the_job_and_no_chip(ward: Ward) -> None:
    """507011: once elsewhere, then the model is at fault; the chips stay in service."""
    for chip in ("0", "1"):
        ward.fault(chip, "bad_execute")
    job = ward.ends(ward.submit(), RunState.FAILED)
    assert job.error is not None
    assert (job.error.code, job.error.blame.value) == ("device_exception", "input")
    assert "twice" in job.error.message
    assert "507011" in job.error.detail
    tries = ward.attempts(job.run_id)
    assert {each.device_id for each in tries} == {FIRST, SECOND}
    assert len(tries) == 2
    assert ward.fleet.working_chips() == 2


@pytest.mark.parametrize(("kind", "code"), [("oom", "device_memory"), ("wrong_soc", "om_wrong_chip")])
def test_what_no_chip_can_do_fails_at_once(ward: Ward, kind: str, code: str) -> None:
    """Alone on the chip and still no memory, or an OM for another chip: one try, with advice, and well chips."""
    for chip in ("0", "1"):
        ward.fault(chip, kind)
    job = ward.ends(ward.submit(), RunState.FAILED)
    assert job.error is not None
    assert (job.error.code, job.error.blame.value, job.attempt) == (code, "input", 1)
    assert ward.fleet.working_chips() == 2


@pytest.mark.parametrize(("kind", "code"), [("crash", "child_lost"), ("hang", "step_timeout")])
def test_a_process_that_dies_or_hangs_is_replaced_and_the_job_done_again(ward: Ward, kind: str, code: str) -> None:
    """SIGABRT, or no answer within the limit: another try succeeds, and burns none of the job's own."""
    ward.set_state(SECOND, DeviceState.DRAINING)
    ward.fault("0", kind, "--count", "1")
    run_id = ward.submit()
    job = ward.ends(run_id, RunState.SUCCEEDED)
    assert (job.failures, job.losses) == (0, 1)
    assert [each.error_code for each in ward.attempts(run_id)] == [code, None]
    assert ward.cause(FIRST)[0] is DeviceState.ONLINE


def test_a_slow_chip_measures_as_slow(ward: Ward) -> None:
    """Nothing is wrong but the number."""
    for chip in ("0", "1"):
        ward.fault(chip, "slow", "--factor", "20")
    job = ward.ends(ward.submit(loops=5), RunState.SUCCEEDED)
    (result,) = ward.fleet.client.results(job.run_id)
    assert result.metrics["latency_p50_ms"] > 30
    assert result.emulated


@pytest.mark.parametrize(
    ("fault", "outcomes"),
    [
        (("alarm", "--health", "Critical"), {(DeviceState.QUARANTINED, DeviceCause.CRITICAL)}),
        # Whoever notices first: the job, whose chip stopped answering, or the next look at npu-smi.
        (("lost",), {(DeviceState.LOST, DeviceCause.VANISHED), (DeviceState.QUARANTINED, DeviceCause.ERRORS)}),
    ],
    ids=["critical", "lost"],
)
def test_a_chip_that_falls_ill_at_work_hands_its_job_over(
    ward: Ward, fault: tuple[str, ...], outcomes: set[tuple[DeviceState, str]]
) -> None:
    """The chip is out of service, and the job is done elsewhere without burning a try of its own."""
    ward.set_state(SECOND, DeviceState.DRAINING)
    run_id = ward.submit(loops=2500)
    wait_until(lambda: ward.benchmark(run_id).state is JobState.RUNNING, "the benchmark runs", LIMIT_SECONDS)
    ward.set_state(SECOND, DeviceState.ONLINE)
    ward.fault("0", *fault)
    wait_until(lambda: ward.cause(FIRST) in outcomes, "the chip is out of service", LIMIT_SECONDS)
    job = ward.ends(run_id, RunState.SUCCEEDED)
    assert (job.device_id, job.failures) == (SECOND, 0)
    first, second = ward.attempts(run_id)
    assert first.device_id == FIRST
    assert second.state is AttemptState.SUCCEEDED
    assert first.state in {AttemptState.RELEASED, AttemptState.FAILED}


def test_an_idle_chip_that_vanishes_comes_back_after_good_looks(ward: Ward) -> None:
    """By itself, and the other chip is not disturbed."""
    ward.fault("0", "lost")
    ward.becomes(FIRST, DeviceState.LOST, DeviceCause.VANISHED)
    assert ward.cause(SECOND)[0] is DeviceState.ONLINE
    ward.npuq("emulator", "clear")
    ward.becomes(FIRST, DeviceState.ONLINE, DeviceCause.RETURNED)


def test_leaked_memory_takes_the_chip_out_until_it_is_free(ward: Ward) -> None:
    """Memory that no process holds; what happened is kept with its reason."""
    wait_until(lambda: all(chip.memory_baseline_mib for chip in ward.chips()), "idle memory is learned", LIMIT_SECONDS)
    ward.fault("0", "leak", "--memory-mb", "4000")
    ward.becomes(FIRST, DeviceState.QUARANTINED, DeviceCause.DIRTY)
    assert ward.listed(FIRST)["state"] == "quarantined"
    assert ward.cause(SECOND)[0] is DeviceState.ONLINE
    assert ward.ends(ward.submit(), RunState.SUCCEEDED).device_id == SECOND
    ward.npuq("emulator", "clear")
    ward.becomes(FIRST, DeviceState.ONLINE, DeviceCause.RETURNED)
    with ward.fleet.client.database.read() as connection:
        events = device_events.of_device(connection, FIRST, limit=2)
    assert [event.cause for event in events] == [DeviceCause.RETURNED, DeviceCause.DIRTY]
    assert "MiB are in use that no process holds" in events[1].reason


def test_a_driver_that_is_down_stops_new_work_and_loses_nothing(ward: Ward) -> None:
    """-8005: unknown is not gone; the run waits, and goes on when the driver does."""
    ward.fault("host", "no_driver")
    for chip in (FIRST, SECOND):
        ward.becomes(chip, DeviceState.DRAINING, DeviceCause.NO_ANSWER)
    run_id = ward.submit()
    ward.npuq("emulator", "clear")
    ward.becomes(FIRST, DeviceState.ONLINE, DeviceCause.RETURNED)
    assert ward.ends(run_id, RunState.SUCCEEDED).attempt == 1


def test_what_atc_refuses_fails_the_run_with_its_words(ward: Ward) -> None:
    """The tool's own code, one try, and the benchmark is skipped."""
    ward.fault("host", "atc_failed", "--text", "EZ3003: No supported Ops kernel and engine are found for [AddDsl].")
    run_id = ward.submit()
    assert ward.ends(run_id, RunState.FAILED).state is JobState.SKIPPED
    with ward.fleet.client.database.read() as connection:
        convert = next(job for job in job_queries.find(connection, run_id=run_id) if job.kind is JobKind.CONVERT)
    assert convert.error is not None
    assert (convert.error.code, convert.attempt) == ("EZ3003", 1)
    assert "AddDsl" in convert.error.detail
