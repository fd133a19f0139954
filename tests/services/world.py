"""A small fleet with runs and jobs, made through the public functions of `db`, for tests that need rows."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

from sqlalchemy import text

from db import devices, job_queries, jobs, runs
from db.engine import Database
from db.records import AttemptRecord, Completion, JobRecord, NewArtifact, NewDevice, NewJob, NewResult, RunRecord
from npuq.client import new_run_id
from npuq.errors import Blame, ErrorInfo
from npuq.retry import Decision, decide
from npuq.specs import RunSpec, Source, SourceKind, derived_id
from npuq.states import AttemptState, DeviceKind, JobKind, JobState, Quality, RunState

HOST: Final = "h1"
CHIP: Final = "h1.npu0.0"
OTHER_CHIP: Final = "h1.npu1.0"
SLOT: Final = "h1.host.0"
OWNER: Final = "a" * 32
SOC: Final = "Ascend310P3"
TOOLCHAIN: Final = "cann-8.0.0"
LEASE_SECONDS: Final = 60.0
DIGEST: Final = "d" * 64

INPUT_ERROR: Final = ErrorInfo(code="bad_input", blame=Blame.INPUT, message="the input is wrong", retry=False)
HOST_ERROR: Final = ErrorInfo(code="host_down", blame=Blame.HOST, message="the host went away", retry=True)


def run_spec(**changes: Any) -> RunSpec:
    """Return a valid specification: an accuracy and a throughput run of MobileNetV1 at batch size 1."""
    values: dict[str, Any] = {
        "run_id": new_run_id(),
        "name": "sweep",
        "submitted_at": datetime.now(UTC),
        "submitter": "tester",
        "goals": (JobKind.EVALUATE, JobKind.BENCHMARK),
        "recipe": "mobilenet_v1",
        "source": Source(kind=SourceKind.WEIGHTS, digest=DIGEST, size_bytes=10, name="mobilenet.pth"),
        "dataset": "small",
        "soc_version": SOC,
    }
    return RunSpec(**(values | changes))


def chip(number: int, host: str = HOST, **changes: Any) -> NewDevice:
    """Return a chip as a launcher registers it."""
    values: dict[str, Any] = {
        "device_id": f"{host}.npu{number}.0",
        "kind": DeviceKind.NPU,
        "identity": f"{host}/{number}/0",
        "name": "310P3",
        "health": "OK",
        "emulated": True,
        "toolchain": TOOLCHAIN,
        "npu_id": number,
        "chip_id": 0,
        "logic_id": number,
        "soc_version": SOC,
        "memory_total_mib": 21_527,
    }
    return NewDevice(**(values | changes))


def slot(number: int, host: str = HOST, **changes: Any) -> NewDevice:
    """Return a host slot as a launcher registers it."""
    values: dict[str, Any] = {
        "device_id": f"{host}.host.{number}",
        "kind": DeviceKind.HOST,
        "identity": f"{host}/slot/{number}",
        "name": "host slot",
        "health": "OK",
        "emulated": True,
        "toolchain": TOOLCHAIN,
    }
    return NewDevice(**(values | changes))


def new_result(**changes: Any) -> NewResult:
    """Return a measured configuration."""
    values: dict[str, Any] = {
        "kind": "performance",
        "dataset": None,
        "dataset_digest": None,
        "samples": None,
        "soc_version": SOC,
        "device_id": None,
        "emulated": True,
        "batch_size": 1,
        "precision": "fp16",
        "quality": Quality.CLEAN,
        "om_digest": DIGEST,
        "toolchain": TOOLCHAIN,
        "facts": {"loops": 10},
        "metrics": {"throughput_fps": (100.0, "fps")},
    }
    return NewResult(**(values | changes))


def completion(*, result: NewResult | None = None, outputs: Mapping[str, Sequence[str]] | None = None) -> Completion:
    """Return what a succeeded attempt leaves; its outputs' digests become rows of the store."""
    stored = outputs if outputs is not None else {"om": ["0" * 64]}
    files = [NewArtifact(digest=digest, size_bytes=1) for digests in stored.values() for digest in digests]
    return Completion(outputs=stored, facts={"seconds": 1.0}, artifacts=files, result=result, log_digest=None)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A job and, where it has one, its newest attempt."""

    job_id: str
    run_id: str
    attempt: int = 0
    device_id: str = ""
    owner: str = ""


class World:
    """Rows in a database: a host with two chips and two slots, and whatever a test adds."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._labels = itertools.count(1)
        self.register([chip(0), chip(1), slot(0), slot(1)])

    def register(self, found: Sequence[NewDevice], host: str = HOST) -> None:
        """Say what a host's launcher found."""
        self.database.transact(lambda c: devices.register(c, host, {"toolchain": TOOLCHAIN}, found))

    def run(self, **changes: Any) -> str:
        """Accept a run; returns its id."""
        spec = run_spec(**changes)
        assert self.database.transact(lambda c: runs.accept(c, spec))
        return spec.run_id

    def new_job(self, kind: JobKind = JobKind.INFER, **changes: Any) -> NewJob:
        """Return a planned job with a label of its own."""
        label = changes.pop("label", f"{kind.value} {next(self._labels)}")
        values: dict[str, Any] = {
            "job_id": derived_id(new_run_id(), label),
            "label": label,
            "kind": kind,
            "recipe": "mobilenet_v1",
            "recipe_version": 1,
            "params": {"batch_size": 1, "precision": "fp16"},
            "soc_version": SOC if kind in {JobKind.INFER, JobKind.BENCHMARK} else None,
        }
        return NewJob(**(values | changes))

    def plan(self, *graph: NewJob, run_id: str | None = None, **changes: Any) -> str:
        """Make a run with this graph, all jobs waiting; returns its id."""
        planned = run_id or self.run(**changes)
        assert self.database.transact(lambda c: runs.plan(c, planned, graph))
        return planned

    def job(
        self,
        state: JobState = JobState.WAITING,
        kind: JobKind = JobKind.INFER,
        *,
        device_id: str | None = None,
        owner: str = OWNER,
        result: NewResult | None = None,
        **changes: Any,
    ) -> Placed:
        """Make a run of one job and bring it to a state by the moves that lead there."""
        new = self.new_job(kind, **changes)
        run_id = self.plan(new)
        placed = Placed(job_id=new.job_id, run_id=run_id)
        target = device_id or (CHIP if kind in {JobKind.INFER, JobKind.BENCHMARK} else SLOT)
        return self.bring(placed, state, device_id=target, owner=owner, result=result)

    def bring(
        self,
        job: Placed,
        state: JobState,
        *,
        device_id: str = CHIP,
        owner: str = OWNER,
        result: NewResult | None = None,
    ) -> Placed:
        """Bring a waiting job to a state."""
        match state:
            case JobState.WAITING:
                return job
            case JobState.CANCELLED:
                self.transact(jobs.request_cancel, job.job_id)
                return job
            case JobState.SKIPPED:
                return self._skip(job)
        self.transact(jobs.enqueue, job.job_id, content_key=derived_id("key", job.job_id) * 2, toolchain=None)
        if state is JobState.QUEUED:
            return job
        dispatched = self.dispatch(job, device_id)
        if state is JobState.DISPATCHED:
            return dispatched
        running = self.claim(dispatched, owner)
        self._end(running, state, result)
        return running

    def dispatch(self, job: Placed, device_id: str = CHIP) -> Placed:
        """Give a queued job to a device; returns it with its new attempt."""
        before = self.record(job).attempt
        assert self.transact(jobs.dispatch, job.job_id, before, device_id)
        return Placed(job_id=job.job_id, run_id=job.run_id, attempt=before + 1, device_id=device_id)

    def claim(self, job: Placed, owner: str = OWNER, lease_seconds: float = LEASE_SECONDS) -> Placed:
        """Claim a dispatched attempt for its device."""
        claim = {"owner": owner, "devices": [job.device_id], "lease_seconds": lease_seconds}
        self.transact(jobs.claim, job.job_id, job.attempt, **claim)
        return Placed(job_id=job.job_id, run_id=job.run_id, attempt=job.attempt, device_id=job.device_id, owner=owner)

    def _end(self, job: Placed, state: JobState, result: NewResult | None) -> None:
        number = (job.job_id, job.attempt)
        match state:
            case JobState.RUNNING:
                return
            case JobState.SUCCEEDED:
                self.transact(jobs.succeed, *number, owner=job.owner, completion=completion(result=result))
            case JobState.FAILED:
                failed = Decision(state=JobState.FAILED, failures=1, losses=0)
                self.transact(jobs.fail, *number, owner=job.owner, error=INPUT_ERROR, decision=failed)
            case JobState.HELD:
                held = Decision(state=JobState.HELD, failures=0, losses=4)
                self.transact(jobs.fail, *number, owner=job.owner, error=HOST_ERROR, decision=held)
            case _:
                raise ValueError(state)

    def _skip(self, job: Placed) -> Placed:
        """Skip by the only way there is: a parent that was cancelled."""
        parent = self.new_job(JobKind.CONVERT)
        child = self.new_job(parents={"om": (parent.label,)})
        run_id = self.plan(parent, child)
        self.transact(jobs.request_cancel, job.job_id)
        self.transact(jobs.request_cancel, parent.job_id)
        self.transact(jobs.skip_doomed)
        return Placed(job_id=child.job_id, run_id=run_id)

    def transact(self, move: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call one of `db`'s functions in a transaction of its own."""
        return self.database.transact(lambda connection: move(connection, *arguments, **named))

    def read(self, query: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call one of `db`'s functions that only read."""
        with self.database.read() as connection:
            return query(connection, *arguments, **named)

    def record(self, job: Placed | str) -> JobRecord:
        """Return a job as it stands."""
        found: JobRecord = self.read(job_queries.get, job if isinstance(job, str) else job.job_id)
        return found

    def state(self, job: Placed | str) -> JobState:
        """Return the state of a job."""
        return self.record(job).state

    def attempts(self, job: Placed | str) -> list[AttemptRecord]:
        """Return a job's attempts."""
        found: list[AttemptRecord] = self.read(job_queries.attempts, job if isinstance(job, str) else job.job_id)
        return found

    def attempt_states(self, job: Placed) -> list[AttemptState]:
        """Return the states of a job's attempts, first to last."""
        return [attempt.state for attempt in self.attempts(job)]

    def somebody_waits(self) -> bool:
        """Tell whether a transaction waits for another one's commit; PostgreSQL only."""
        with self.database.read() as connection:
            return connection.execute(text("SELECT 1 FROM pg_locks WHERE NOT granted")).first() is not None

    def run_record(self, run_id: str) -> RunRecord:
        """Return a run as it stands."""
        found: RunRecord = self.read(runs.get, run_id)
        return found

    def run_state(self, run_id: str) -> RunState:
        """Return the state of a run."""
        return self.run_record(run_id).state


def decision_for(error: ErrorInfo, job: JobRecord, seed: int = 0) -> Decision:
    """Decide as the program does, with a seeded source of jitter."""
    return decide(error, failures=job.failures, losses=job.losses, max_attempts=job.max_attempts, random=Random(seed))
