"""From the client's call to the start on a chip, on an idle fleet."""

from pathlib import Path
from typing import Final

from benchmarks.compiled import compile_model, run_all
from benchmarks.figures import Figure, spread
from tests.fleet.fleet import Fleet, FleetPlan
from tests.fleet.models import benchmark_spec

RUNS: Final = 40


def measure(folder: Path) -> list[Figure]:
    """Submit runs of one job, each when the one before is over."""
    with Fleet(folder / "home", FleetPlan(chips=2)) as fleet:
        source = compile_model(fleet, folder)
        times = [entry for _ in range(RUNS) for entry in run_all(fleet, [benchmark_spec(source)])]
    waits = [(entry.started_at - entry.submitted_at).total_seconds() for entry in times]
    return spread("submit to start on an idle fleet", waits, f"{RUNS} runs of one job, one after another")
