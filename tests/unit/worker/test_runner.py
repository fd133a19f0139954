import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from db import devices, jobs, results, scheduling_queries
from db.artifacts import ArtifactStore
from db.engine import Database
from npuq.celery_app import Sender
from npuq.config import Settings
from npuq.errors import Blame, ErrorInfo
from npuq.specs import Source, SourceKind
from npuq.states import AttemptState, DeviceCause, DeviceState, JobKind, JobState
from tasks.card_meeting import LEAD_GONE
from tasks.steps import Metric, StepOutcome, StepRequest
from tests.services.waiting import wait_until
from tests.services.world import CHIP, HOST_ERROR, INPUT_ERROR, SLOT, Placed, World, decision_for
from worker.child import Child, EndResult
from worker.runner import Runner

Step = Callable[[StepRequest], StepOutcome | ErrorInfo]
BENCHMARK = StepOutcome(metrics={"throughput_fps": Metric(value=50.0, unit="fps")}, quality="clean")


class FakeChild:
    """A child that answers what the test scripts; `end` makes a blocked step answer."""

    def __init__(self) -> None:
        self.step: Step = lambda _request: BENCHMARK
        self.requests: list[StepRequest] = []
        self.loaded: tuple[str, ...] = ()
        self.ended = threading.Event()
        self.end_result = EndResult.GONE

    def run(self, request: StepRequest, log: Any, on_progress: Any, timeout_seconds: float) -> StepOutcome | ErrorInfo:
        """Run one attempt."""
        assert timeout_seconds > 0
        self.requests.append(request)
        log.write("it runs\n")
        del on_progress
        return self.step(request)

    def end(self, grace_seconds: float) -> EndResult:
        """End the processes."""
        assert grace_seconds >= 0
        self.ended.set()
        return self.end_result

    def until_ended(self, _request: StepRequest) -> ErrorInfo:
        """Work until somebody ends it, as a real child would be lost then."""
        assert self.ended.wait(20)
        return HOST_ERROR


class Bell:
    """Counts the wake-ups of the scheduler."""

    def __init__(self) -> None:
        self.rung = 0

    def wake(self) -> None:
        """Ring."""
        self.rung += 1


class Bench:
    """A runner for the first chip or the first slot, with a fake child."""

    def __init__(self, database: Database, settings: Settings, folder: Path) -> None:
        self.world = World(database)
        self.child = FakeChild()
        self.bell = Bell()
        self.settings = settings
        self.store = ArtifactStore(str(folder / "store"), folder / "cache")
        self.runner = self.new_runner(CHIP)

    def new_runner(self, *device_ids: str) -> Runner:
        """Return a runner for some devices."""
        child = cast("Child", self.child)
        sender = cast("Sender", self.bell)
        return Runner(self.settings, self.world.database, self.store, sender, device_ids, lambda _assignment: child)

    def dispatched(self, kind: JobKind = JobKind.BENCHMARK) -> Placed:
        """Return a job that was given to the chip."""
        return self.world.job(JobState.DISPATCHED, kind)

    def ring(self, job: Placed, runner: Runner | None = None) -> None:
        """Answer the doorbell of a job."""
        (runner or self.runner).handle({"job_id": job.job_id, "attempt": job.attempt})


@pytest.fixture
def bench(sqlite_database: Database, settings: Settings, tmp_path: Path) -> Bench:
    """Return a runner on a fleet in SQLite."""
    return Bench(sqlite_database, settings, tmp_path)


def test_a_doorbell_becomes_an_outcome(bench: Bench, tmp_path: Path) -> None:
    """Claimed, run, committed with its result and its log; the scheduler is woken, the folder is gone."""
    job = bench.dispatched()
    bench.ring(job)
    record = bench.world.record(job)
    assert (record.state, record.facts["device_id"]) == (JobState.SUCCEEDED, CHIP)
    (result,) = bench.world.read(results.find)
    assert (result.job_id, result.metrics, result.device_id) == (job.job_id, {"throughput_fps": 50.0}, CHIP)
    (attempt,) = bench.world.attempts(job)
    assert attempt.log_digest is not None
    assert "it runs" in bench.store.fetch(attempt.log_digest).read_text()
    assert bench.bell.rung == 1
    assert not list((bench.settings.home / "work").rglob("*.1"))


def _companion(bench: Bench) -> Placed:
    lead = bench.world.new_job(JobKind.BENCHMARK)
    lead = replace(lead, lead_id=lead.job_id)
    companion = replace(bench.world.new_job(JobKind.BENCHMARK), lead_id=lead.job_id)
    run_id = bench.world.plan(lead, companion)
    return bench.world.bring(Placed(job_id=companion.job_id, run_id=run_id), JobState.DISPATCHED, device_id=CHIP)


@pytest.mark.parametrize("gone", [False, True])
def test_a_companion_hands_its_measurement_over_and_has_no_end_of_its_own(bench: Bench, *, gone: bool) -> None:
    """It is queued again without cost, also when the leading job ended before it; a failure of its own is one."""
    job = _companion(bench)
    alone = ErrorInfo(code=LEAD_GONE, blame=Blame.HOST, message="it ended early", retry=True)
    bench.child.step = lambda _request: alone if gone else StepOutcome()
    bench.ring(job)
    record = bench.world.record(job)
    assert (record.state, record.losses, record.failures) == (JobState.QUEUED, 0, 0)
    assert bench.world.attempt_states(job) == [AttemptState.RELEASED]
    assert bench.world.read(results.find) == []


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_companion_that_is_stopped_as_it_hands_over_does_not_succeed_alone(bench: Bench, *, cancelled: bool) -> None:
    """Its leading job may yet fail: a companion that had succeeded would never come again, and both wait for ever."""
    job = _companion(bench)

    def measure_while_told_to_stop(_request: StepRequest) -> StepOutcome:
        if cancelled:
            bench.world.transact(jobs.request_cancel, job.job_id)
        else:
            bench.world.transact(devices.set_state, CHIP, DeviceState.QUARANTINED, "sick", DeviceCause.ALARM)
        assert bench.child.ended.wait(20)
        return StepOutcome()

    bench.child.step = measure_while_told_to_stop
    bench.ring(job)
    record = bench.world.record(job)
    assert (record.state, record.losses) == (JobState.CANCELLED if cancelled else JobState.QUEUED, 0)
    assert bench.world.attempt_states(job) == [AttemptState.RELEASED]


def _log_of(bench: Bench, job: Placed) -> str:
    digest = bench.world.attempts(job)[-1].log_digest
    assert digest is not None
    return bench.store.fetch(digest).read_text()


def test_the_log_of_a_failed_attempt_ends_with_its_error(bench: Bench) -> None:
    """Also when the step never began: an input that the store lacks is told there, too."""
    bench.child.step = lambda _request: INPUT_ERROR
    told = bench.dispatched()
    bench.ring(told)
    assert _log_of(bench, told).splitlines() == [
        "it runs",
        f"error: {INPUT_ERROR.message} ({INPUT_ERROR.code}, to blame: input)",
    ]
    unbegun = bench.world.job(JobState.DISPATCHED, inputs={"om": ("f" * 64,)})
    bench.ring(unbegun)
    assert "artifact ffffffffffff is not in the store" in _log_of(bench, unbegun)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("mobilenet v1.pth.tar", "weights0/mobilenet v1.pth.tar"),
        ("../../evil", "weights0.pth"),
        ("..", "weights0.pth"),
        ("n" * 200, f"weights0/{'n' * 200}"),
        ("é" * 200, "weights0.pth"),
    ],
)
def test_a_checkpoint_keeps_its_name_where_a_file_may_be_called_so(
    bench: Bench, tmp_path: Path, name: str, path: str
) -> None:
    """Errors about it name what the person submitted; a name from a message leads nowhere else."""
    runner = bench.new_runner(SLOT)
    file = tmp_path / "weights"
    file.write_bytes(b"weights")
    stored = bench.store.put(file)
    source = Source(kind=SourceKind.WEIGHTS, digest=stored.digest, size_bytes=7, name=name)
    export = bench.world.new_job(JobKind.EXPORT, inputs={"weights": (stored.digest,)})
    run_id = bench.world.plan(export, source=source)
    placed = Placed(job_id=export.job_id, run_id=run_id)
    bench.ring(bench.world.bring(placed, JobState.DISPATCHED, device_id=SLOT), runner)
    (given,) = bench.child.requests[-1].inputs["weights"]
    assert given.relative_to(given.parents[len(Path(path).parts) - 1]) == Path(path)


def test_outputs_are_stored_before_they_are_named(bench: Bench) -> None:
    """The digests in the row lead to the bytes that the step made."""

    def convert(request: StepRequest) -> StepOutcome:
        path = request.workdir / "model.om"
        path.write_bytes(b"IMOD")
        return StepOutcome(outputs={"om": (path,)})

    bench.child.step = convert
    job = bench.dispatched()
    bench.ring(job)
    (digest,) = bench.world.record(job).outputs["om"]
    assert bench.store.fetch(digest).read_bytes() == b"IMOD"


def test_an_output_that_is_not_there_is_a_failure_and_not_a_success(bench: Bench) -> None:
    """A step that names a file which it did not write is not believed."""
    bench.child.step = lambda request: StepOutcome(outputs={"om": (request.workdir / "missing.om",)})
    job = bench.dispatched()
    bench.ring(job)
    assert bench.world.state(job) is JobState.QUEUED
    assert bench.world.attempt_states(job) == [AttemptState.FAILED]


@pytest.mark.parametrize(
    ("error", "state", "counters"),
    [(INPUT_ERROR, JobState.FAILED, (1, 0)), (HOST_ERROR, JobState.QUEUED, (0, 1))],
)
def test_a_failure_is_written_as_decided(
    bench: Bench, error: ErrorInfo, state: JobState, counters: tuple[int, int]
) -> None:
    """The input's failures burn tries, the infrastructure's do not."""
    bench.child.step = lambda _request: error
    job = bench.dispatched()
    bench.ring(job)
    record = bench.world.record(job)
    assert (record.state, record.failures, record.losses) == (state, *counters)


def test_forged_stale_and_foreign_doorbells_change_nothing(bench: Bench) -> None:
    """Nothing is run, nothing is written, nothing is raised."""
    job = bench.dispatched()
    for payload in (None, {}, {"job_id": "0" * 32, "attempt": 1}, {"job_id": job.job_id, "attempt": 2}):
        bench.runner.handle(payload)
    bench.ring(job, bench.new_runner(SLOT))
    assert bench.child.requests == []
    assert bench.world.state(job) is JobState.DISPATCHED


def test_a_doubled_doorbell_runs_once_even_in_one_worker(bench: Bench) -> None:
    """Two threads of one worker answer the same doorbell: the second must not find the attempt its own.

    It did: the owner token was the worker's and not the doorbell's, so a host worker ran the attempt twice in one
    folder.
    """
    started, finish = threading.Event(), threading.Event()

    def slow(_request: StepRequest) -> StepOutcome:
        started.set()
        assert finish.wait(20)
        return BENCHMARK

    bench.child.step = slow
    job = bench.dispatched()
    first = threading.Thread(target=bench.ring, args=(job,))
    first.start()
    assert started.wait(20)
    bench.ring(job)
    finish.set()
    first.join(20)
    bench.ring(job)
    assert len(bench.child.requests) == 1
    assert bench.world.state(job) is JobState.SUCCEEDED


def test_a_cancel_ends_the_child(bench: Bench) -> None:
    """It is heard with the next beat; the attempt is cancelled when the processes are gone."""
    bench.child.step = bench.child.until_ended
    job = bench.dispatched()
    thread = threading.Thread(target=bench.ring, args=(job,))
    thread.start()
    wait_until(lambda: bench.child.requests, "the step runs")
    bench.world.transact(jobs.request_cancel, job.job_id)
    thread.join(20)
    assert bench.world.state(job) is JobState.CANCELLED
    assert bench.world.attempt_states(job) == [AttemptState.CANCELLED]


def test_a_lost_attempt_is_dropped(bench: Bench) -> None:
    """Told that it belongs to somebody else, the worker ends the child and writes nothing."""
    bench.child.step = bench.child.until_ended
    job = bench.dispatched()
    thread = threading.Thread(target=bench.ring, args=(job,))
    thread.start()
    wait_until(lambda: bench.child.requests, "the step runs")
    beats = bench.world.attempts(job)[0].beats
    decision = decision_for(HOST_ERROR, bench.world.record(job))
    wait_until(
        lambda: bench.world.transact(
            jobs.lose, job.job_id, 1, bench.world.attempts(job)[0].beats, HOST_ERROR, decision
        ),
        "the attempt is declared lost between two beats",
    )
    assert beats >= 1
    thread.join(20)
    assert bench.child.ended.is_set()
    assert bench.world.attempt_states(job) == [AttemptState.LOST]
    assert bench.world.record(job).losses == 1


def test_a_stopping_worker_takes_nothing_new_and_hands_back_what_takes_too_long(bench: Bench) -> None:
    """The job queues again unharmed."""
    bench.child.step = bench.child.until_ended
    job, later = bench.dispatched(), bench.dispatched()
    thread = threading.Thread(target=bench.ring, args=(job,))
    thread.start()
    wait_until(lambda: bench.child.requests, "the step runs")
    bench.runner.drain()
    bench.runner.drain()
    bench.ring(later)
    thread.join(30)
    record = bench.world.record(job)
    assert (record.state, record.losses, record.failures) == (JobState.QUEUED, 0, 0)
    assert bench.world.attempt_states(job) == [AttemptState.RELEASED]
    assert bench.world.state(later) is JobState.DISPATCHED


def test_a_process_that_survives_kill_puts_its_chip_in_quarantine(bench: Bench) -> None:
    """Nothing else may run on a chip that something still holds."""
    bench.child.step = bench.child.until_ended
    bench.child.end_result = EndResult.UNKILLABLE
    job = bench.dispatched()
    thread = threading.Thread(target=bench.ring, args=(job,))
    thread.start()
    wait_until(lambda: bench.child.requests, "the step runs")
    bench.world.transact(jobs.request_cancel, job.job_id)
    thread.join(20)
    chip = bench.world.read(devices.get, CHIP, suspect_seconds=30.0)
    assert chip.state is DeviceState.QUARANTINED
    assert "survives KILL" in chip.state_reason


def test_a_new_worker_takes_over_what_its_predecessor_left(bench: Bench) -> None:
    """It holds the lock, so nobody runs it any more: the job goes back at once, and not after a lease."""
    job = bench.world.job(JobState.RUNNING)
    elsewhere = bench.world.job(JobState.RUNNING, JobKind.EXPORT)
    assert bench.runner.take_over() == 1
    assert bench.runner.take_over() == 0
    assert bench.world.attempt_states(job) == [AttemptState.LOST]
    assert bench.world.state(elsewhere) is JobState.RUNNING


def test_a_missing_input_is_a_failure_of_the_attempt(bench: Bench) -> None:
    """What cannot be prepared never reaches the child."""
    job = bench.world.job(JobState.DISPATCHED, JobKind.BENCHMARK, inputs={"om": ("f" * 64,)})
    bench.ring(job)
    assert bench.child.requests == []
    error = bench.world.record(job).error
    assert error is not None
    assert (error.code, error.blame) == ("artifact", Blame.FLEET)


def test_a_chip_remembers_what_it_loaded(bench: Bench) -> None:
    """Placement prefers it for the next job of the same model."""

    def load(_request: StepRequest) -> StepOutcome:
        bench.child.loaded = ("m" * 64,)
        return BENCHMARK

    bench.child.step = load
    bench.ring(bench.dispatched())
    assert bench.world.read(devices.get, CHIP, suspect_seconds=30.0).loaded == ("m" * 64,)
    assert bench.world.read(scheduling_queries.active) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_none_never_enters_the_history(bench: Bench, number: float) -> None:
    """A step that measured nothing has failed; the attempt does not hang until its lease is over."""
    bench.child.step = lambda _request: StepOutcome(metrics={"throughput_fps": Metric(value=number, unit="fps")})
    job = bench.dispatched()
    bench.ring(job)
    assert bench.world.attempt_states(job) == [AttemptState.FAILED]
    assert bench.world.read(results.find) == []
