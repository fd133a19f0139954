"""Work for measurements of the system itself: a compiled model, so that runs begin at the chip, and their times."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import select

from db import job_queries
from db.tables import Attempt, Job, Run
from npuq.specs import RunSpec, Source, SourceKind
from npuq.states import AttemptState, JobKind
from tests.fleet import models
from tests.fleet.fleet import Fleet

LIMIT_SECONDS: Final = 300.0


@dataclass(frozen=True, kw_only=True)
class Times:
    """When a benchmark job was submitted, and when its successful attempt began and ended; the fleet's clocks."""

    device_id: str
    submitted_at: datetime
    started_at: datetime
    finished_at: datetime


def compile_model(fleet: Fleet, folder: Path) -> Source:
    """Convert the tiny model once, for batch size 1, and measure it once, so that every process is warm."""
    source = models.upload(fleet.client, models.write_tiny_onnx(folder / "tiny.onnx"))
    spec = models.benchmark_spec(source)
    fleet.client.submit(spec)
    fleet.client.wait(spec.run_id, timeout_seconds=LIMIT_SECONDS)
    with fleet.client.database.read() as connection:
        (convert,) = job_queries.find(connection, run_id=spec.run_id, kind=JobKind.CONVERT)
    digest = convert.outputs["om"][0]
    size_bytes = fleet.client.store.fetch(digest).stat().st_size
    return Source(kind=SourceKind.OM, digest=digest, size_bytes=size_bytes, name="tiny.om")


def run_all(fleet: Fleet, specs: Sequence[RunSpec]) -> list[Times]:
    """Submit runs at once, wait for all of them, and return the times of their jobs by their start."""
    for spec in specs:
        fleet.client.submit(spec, wait_seconds=0.0)
    for spec in specs:
        wait_for(fleet, spec)
    return times_of(fleet, [spec.run_id for spec in specs])


def wait_for(fleet: Fleet, spec: RunSpec) -> None:
    """Wait until a submitted run is over; the scheduler may not have taken it yet."""
    fleet.wait_accepted(spec.run_id)
    fleet.client.wait(spec.run_id, timeout_seconds=LIMIT_SECONDS)


def times_of(fleet: Fleet, run_ids: Sequence[str]) -> list[Times]:
    """Return the times of the benchmark jobs of some runs, by their start."""
    query = (
        select(Attempt.device_id, Run.submitted_at, Attempt.started_at, Attempt.finished_at)
        .join(Job, Job.id == Attempt.job_id)
        .join(Run, Run.id == Job.run_id)
        .where(Run.id.in_(run_ids), Job.kind == JobKind.BENCHMARK, Attempt.state == AttemptState.SUCCEEDED)
        .order_by(Attempt.started_at)
    )
    with fleet.client.database.read() as connection:
        return [
            Times(
                device_id=row.device_id,
                submitted_at=row.submitted_at,
                started_at=row.started_at,
                finished_at=row.finished_at,
            )
            for row in connection.execute(query)
        ]
