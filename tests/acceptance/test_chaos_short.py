"""A short run of chaos on each database; `python -m tests.chaos` is the long one."""

import gc
import sys
from pathlib import Path

import pytest

from tests.chaos.driver import ChaosPlan, run_chaos

SHORT_SQLITE = ChaosPlan(jobs=20, seed=11, chips=2, mean_wait_seconds=2.5, limit_seconds=400.0, loops=3)
SHORT_POSTGRESQL = ChaosPlan(
    jobs=14, seed=12, chips=2, database="postgresql", mean_wait_seconds=2.5, limit_seconds=400.0, loops=3
)


@pytest.mark.acceptance
@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # pg8000 leaves those of a killed server
@pytest.mark.parametrize("plan", [SHORT_SQLITE, SHORT_POSTGRESQL], ids=lambda plan: plan.database)
def test_every_promise_is_kept_under_fire(plan: ChaosPlan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is lost, nothing counts twice, no chip has two owners; the line that is printed names the seed."""
    report = run_chaos(plan, tmp_path)
    gc.collect()  # here, not in somebody else's test
    with capsys.disabled():
        sys.stdout.write(f"\n{report.line()}\n")
    assert [str(violation) for violation in report.violations] == []
    assert not report.unfinished
    assert report.faults  # how many strike before the last job is done depends on the machine, not on npuq
