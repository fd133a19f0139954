"""A scheduler without Celery, and workers played by the test."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from db import datasets, job_queries, jobs
from db.artifacts import ArtifactStore
from db.engine import Database
from npuq.celery_app import Sender
from npuq.config import Settings
from npuq.errors import BrokerError, ErrorInfo
from npuq.states import JobKind, JobState
from scheduler.loop import Loop
from tests.services.world import OWNER, SOC, Placed, World, completion, decision_for, new_result

SAMPLES = 64


class FakeClock:
    """Clocks that the test moves."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def monotonic(self) -> float:
        """Return seconds."""
        return self.seconds

    def now(self) -> datetime:
        """Return aware wall time in UTC: far from the database's, which alone stamps leases."""
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)


class RecordingSender:
    """Keeps the doorbells instead of sending them; `broken`: Redis is away."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.broken = False

    def send(self, task: str, queue: str, payload: Any) -> None:
        """Take one message."""
        if self.broken:
            raise BrokerError("cannot reach Redis")
        assert task == "npuq.run_attempt"
        self.sent.append((queue, payload))

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        """Return what was sent since the last call."""
        taken, self.sent = self.sent, []
        return taken


class Fleet:
    """One scheduler over a database, and the artifacts that played jobs leave in a real store."""

    def __init__(self, database: Database, settings: Settings, folder: Path) -> None:
        self.world = World(database)
        # Nobody beats for the hosts here: on a slow machine they must not be taken for silent ones meanwhile.
        patient = settings.timing.model_copy(update={"suspect_seconds": 600.0})
        self.settings = settings.model_copy(update={"timing": patient})
        self.store = ArtifactStore(f"file://{folder / 'store'}", folder / "cache")
        self.sender = RecordingSender()
        self.clock = FakeClock()
        self.loop = self.new_loop(self.sender)
        self._files = folder
        self.world.transact(
            datasets.put, name="small", format="imagenet", root="/data", digest="5" * 64, samples=SAMPLES
        )

    def new_loop(self, sender: RecordingSender) -> Loop:
        """Return another scheduler over the same database."""
        return Loop(self.settings, self.world.database, self.store, cast("Sender", sender), self.clock)

    def tick(self, seconds: float = 0.0) -> int:
        """Let time pass and run the loop until it says that nothing moved."""
        total = 0
        for _ in range(int(seconds)):  # a scheduler that looks every second sees a counter stand still
            self.clock.seconds += 1.0
            total += self.loop.run_once()
        self.clock.seconds += seconds - int(seconds)
        moved = self.loop.run_once()
        total += moved
        while moved:
            moved = self.loop.run_once()
            total += moved
        return total

    def artifact(self, text: str) -> str:
        """Store a small file; returns its digest."""
        path = self._files / "made"
        path.write_text(text)
        return self.store.put(path).digest

    def claim_all(self, owner: str = OWNER) -> list[Placed]:
        """Answer every doorbell that rang, as the pinned workers would."""
        claimed = []
        for queue, payload in self.sender.take():
            record = self.world.record(payload["job_id"])
            assert record.device_id is not None
            assert queue in {f"npuq.device.{record.device_id}", f"npuq.host.{record.device_id.split('.', 1)[0]}"}
            placed = Placed(
                job_id=record.job_id, run_id=record.run_id, attempt=payload["attempt"], device_id=record.device_id
            )
            claimed.append(self.world.claim(placed, owner))
        return claimed

    def finish(self, job: Placed) -> None:
        """Let a job succeed with the outputs of its kind."""
        record = self.world.record(job)
        role = {
            JobKind.EXPORT: "onnx",
            JobKind.CONVERT: "om",
            JobKind.INFER: "predictions",
            JobKind.EVALUATE: "report",
            JobKind.BENCHMARK: "report",
        }[record.kind]
        outputs = {role: [self.artifact(f"{record.kind} {record.params} {record.inputs}")]}
        result = None
        if record.kind in {JobKind.EVALUATE, JobKind.BENCHMARK}:
            kind = "accuracy" if record.kind is JobKind.EVALUATE else "performance"
            result = new_result(kind=kind, batch_size=record.params["batch_size"], soc_version=SOC)
        done = completion(result=result, outputs=outputs)
        self.world.transact(jobs.succeed, job.job_id, job.attempt, owner=job.owner, completion=done)

    def fail(self, job: Placed, error: ErrorInfo) -> None:
        """Let a job fail, as its worker would decide."""
        decision = decision_for(error, self.world.record(job))
        self.world.transact(jobs.fail, job.job_id, job.attempt, owner=job.owner, error=error, decision=decision)

    def work_off(self, rounds: int = 40) -> list[JobKind]:
        """Play the workers until nothing is dispatched any more; returns the kinds in the order in which they ran."""
        ran: list[JobKind] = []
        for _ in range(rounds):
            self.tick()
            claimed = self.claim_all()
            if not claimed:
                return ran
            for job in claimed:
                ran.append(self.world.record(job).kind)
                self.finish(job)
        raise AssertionError(f"still working after {rounds} rounds")

    def states(self, run_id: str) -> dict[str, JobState]:
        """Return label -> state of a run's jobs."""
        return {job.label: job.state for job in self.world.read(job_queries.find, run_id=run_id)}
