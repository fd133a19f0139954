"""How long it takes to submit a large sweep: from the client's call until its jobs are in the database."""

import time
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure
from db import datasets, runs
from npuq.precision import Precision
from npuq.specs import RunSpec
from npuq.states import JobKind, RunState
from tests.fleet import models
from tests.fleet.fleet import DatabaseKind, Fleet, FleetPlan

BATCH_SIZES: Final = tuple(range(1, 64))
DATABASES: Final[tuple[DatabaseKind, ...]] = ("sqlite", "postgresql")
LIMIT_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.005


def measure(folder: Path) -> list[Figure]:
    """Submit a sweep of 63 batch sizes and four precisions: convert, infer, evaluate and benchmark for each."""
    figures: list[Figure] = []
    for database in DATABASES:
        with Fleet(folder / database, FleetPlan(chips=1, database=database)) as fleet:
            spec = _sweep(fleet, folder)
            began = time.monotonic()
            fleet.client.submit(spec, wait_seconds=0.0)
            called = time.monotonic() - began
            jobs = _wait_planned(fleet, spec, began + LIMIT_SECONDS)
            planned = time.monotonic() - began
            fleet.client.database.transact(lambda connection: runs.cancel(connection, spec.run_id))  # noqa: B023 - called at once
        how = f"one run of {jobs} jobs"
        figures += [
            Figure(name=f"submit a large run, the client's call, {database}", value=called, unit="s", how=how),
            Figure(name=f"submit a large run, until it is planned, {database}", value=planned, unit="s", how=how),
        ]
    return figures


def _sweep(fleet: Fleet, folder: Path) -> RunSpec:
    fleet.client.database.transact(
        lambda connection: datasets.put(
            connection, name="one", format="imagenet", root=str(folder), digest="0" * 64, samples=1
        )
    )
    source = models.upload(fleet.client, models.write_tiny_onnx(folder / "tiny.onnx"))
    spec = models.benchmark_spec(source, batch_sizes=BATCH_SIZES, precisions=tuple(Precision))
    return spec.model_copy(update={"goals": (JobKind.EVALUATE, JobKind.BENCHMARK), "dataset": "one"})


def _wait_planned(fleet: Fleet, spec: RunSpec, deadline: float) -> int:
    while True:
        with fleet.client.database.read() as connection:
            run = runs.get(connection, spec.run_id)
        if run is not None and run.state is RunState.ACTIVE:
            return sum(run.jobs.values())
        if time.monotonic() > deadline:
            raise TimeoutError(f"not planned within {LIMIT_SECONDS:g} s: {run}")
        time.sleep(POLL_SECONDS)
