"""How well chips are fed: the share of infer time in which a chip works, with MobileNetV1 really computed."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks.compiled import wait_for
from benchmarks.figures import Figure
from db import datasets, job_queries
from npuq.client import new_run_id
from npuq.specs import RunSpec, Source, SourceKind
from npuq.states import JobKind
from tasks.demo_data import DATASET_FORMAT, RECIPE, make_demo
from tests.fleet.fleet import Fleet, FleetPlan

BATCH_SIZES: Final = (1, 8)
PICTURES: Final = 128


def measure(folder: Path) -> list[Figure]:
    """Infer the same pictures twice: decoded for the first time, and from the host's cache of samples."""
    demo = make_demo(folder / "demo", classes=4, train=16, val=PICTURES)
    with Fleet(folder / "home", FleetPlan(chips=1, service_ms=None)) as fleet:
        client = fleet.client
        client.upload(demo.manifest)
        client.database.transact(
            lambda connection: datasets.put(
                connection,
                name="demo",
                format=DATASET_FORMAT,
                root=str(demo.dataset_root),
                digest=demo.dataset_digest,
                samples=demo.samples,
            )
        )
        weights = client.upload(demo.weights)
        source = Source(
            kind=SourceKind.WEIGHTS, digest=weights.digest, size_bytes=weights.size_bytes, name=demo.weights.name
        )
        figures: list[Figure] = []
        for samples in ("decoded", "cached"):
            spec = _spec(source)
            client.submit(spec)
            wait_for(fleet, spec)
            figures += _figures(fleet, spec, samples)
    return figures


def _spec(source: Source) -> RunSpec:
    return RunSpec(
        run_id=new_run_id(),
        name="busy",
        submitted_at=datetime.now(UTC),
        submitter="benchmarks",
        goals=(JobKind.EVALUATE,),
        recipe=RECIPE,
        source=source,
        dataset="demo",
        batch_sizes=BATCH_SIZES,
        fresh=True,
    )


def _figures(fleet: Fleet, spec: RunSpec, samples: str) -> list[Figure]:
    with fleet.client.database.read() as connection:
        jobs = job_queries.find(connection, run_id=spec.run_id, kind=JobKind.INFER)
    figures = []
    for batch_size in BATCH_SIZES:
        shares = [job.facts["chip_busy_share"] for job in jobs if job.params["batch_size"] == batch_size]
        figures.append(
            Figure(
                name=f"chip busy while inferring, batch {batch_size}, samples {samples}",
                value=100 * sum(shares) / len(shares),
                unit="%",
                how=f"mean of {len(shares)} shards, {PICTURES} pictures, MobileNetV1 on one core",
            )
        )
    return figures
