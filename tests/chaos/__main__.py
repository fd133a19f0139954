"""`python -m tests.chaos --jobs 10000 --seed 7`: a long run of chaos. Exit code 0 when every promise was kept."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.driver import ChaosPlan, run_chaos

SECONDS_PER_JOB = 2.0


def main(arguments: list[str]) -> int:
    """Run once and print one line; the folder is kept when something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--devices", type=int, default=4, help="emulated chips (default 4)")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--seconds-between-faults", type=float, default=1.0, metavar="X", help="on average (default 1)")
    parser.add_argument("--keep", action="store_true", help="keep logs, database and diary in any case")
    options = parser.parse_args(arguments)
    plan = ChaosPlan(
        jobs=options.jobs,
        seed=options.seed,
        chips=options.devices,
        database=options.database,
        mean_wait_seconds=options.seconds_between_faults,
        limit_seconds=120.0 + SECONDS_PER_JOB * options.jobs,
    )
    folder = Path(tempfile.mkdtemp(prefix="npuq-chaos-"))
    report = run_chaos(plan, folder)
    sys.stdout.write(report.line() + "\n")
    for violation in report.violations:
        sys.stdout.write(f"  {violation}\n")
    if report.kept and not options.keep:
        shutil.rmtree(folder)
    else:
        sys.stdout.write(f"  everything is in {folder}\n")
    return 0 if report.kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
