"""Between two jobs on a chip: from the end of one attempt to the start of the next, with and without look-ahead."""

from itertools import pairwise
from pathlib import Path
from typing import Final

from benchmarks.compiled import compile_model, run_all
from benchmarks.figures import Figure, spread
from tests.fleet.fleet import Fleet, FleetPlan
from tests.fleet.models import benchmark_spec

JOBS: Final = 60


def measure(folder: Path) -> list[Figure]:
    """Run jobs back to back on one timed chip, once as npuq does it and once without giving jobs ahead."""
    figures: list[Figure] = []
    for look_ahead in (True, False):
        name = "with" if look_ahead else "without"
        plan = FleetPlan(chips=1, service_ms=2.0, look_ahead=look_ahead)
        with Fleet(folder / name, plan) as fleet:
            source = compile_model(fleet, folder)
            times = run_all(fleet, [benchmark_spec(source) for _ in range(JOBS)])
        gaps = [(after.started_at - before.finished_at).total_seconds() for before, after in pairwise(times)]
        figures += spread(f"gap between jobs on a chip, {name} look-ahead", gaps, f"{len(gaps)} gaps")
    return figures
