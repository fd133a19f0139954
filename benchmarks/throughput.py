"""How many jobs per second pass through the whole system when the chip's share is nothing."""

from pathlib import Path
from typing import Final

from benchmarks.compiled import compile_model, run_all
from benchmarks.figures import Figure
from tests.fleet.fleet import DatabaseKind, Fleet, FleetPlan
from tests.fleet.models import benchmark_spec

JOBS: Final = 100
CASES: Final[tuple[tuple[int, DatabaseKind], ...]] = ((1, "sqlite"), (2, "sqlite"), (4, "sqlite"), (4, "postgresql"))


def measure(folder: Path) -> list[Figure]:
    """Submit many runs of one job at once; count from the first start to the last end."""
    figures: list[Figure] = []
    for chips, database in CASES:
        home = folder / f"{database}{chips}"
        with Fleet(home, FleetPlan(chips=chips, database=database, service_ms=0.0)) as fleet:
            source = compile_model(fleet, folder)
            times = run_all(fleet, [benchmark_spec(source) for _ in range(JOBS)])
        seconds = (max(entry.finished_at for entry in times) - times[0].started_at).total_seconds()
        figures.append(
            Figure(
                name=f"jobs through the system, {chips} chip{'s' if chips > 1 else ''}, {database}",
                value=len(times) / seconds,
                unit="1/s",
                how=f"{len(times)} benchmark jobs of one execution of 0 ms; each asks npu-smi twice",
            )
        )
    return figures
