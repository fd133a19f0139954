"""`python -m benchmarks [NAME…]`: measure npuq itself on emulated fleets and print one table.

Nothing passes or fails by time: the figures belong to the machine that they were measured on.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from benchmarks import (
    chip_busy,
    export,
    gap,
    latency,
    postprocessing,
    start,
    submission,
    throughput,
    tick,
    widerface,
)
from benchmarks.figures import Figure, table

BENCHMARKS: Final[Mapping[str, Callable[[Path], list[Figure]]]] = {
    "start": start.measure,
    "tick": tick.measure,
    "gap": gap.measure,
    "latency": latency.measure,
    "throughput": throughput.measure,
    "submission": submission.measure,
    "chip_busy": chip_busy.measure,
    "postprocessing": postprocessing.measure,
    "widerface": widerface.measure,
    "export": export.measure,
}


def main(arguments: list[str]) -> int:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    names = parser.parse_args(arguments).names or list(BENCHMARKS)
    unknown = sorted(set(names) - BENCHMARKS.keys())
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    figures: list[Figure] = []
    for name in names:
        sys.stderr.write(f"measuring {name} ...\n")
        with tempfile.TemporaryDirectory(prefix="npuq-bench-") as folder:
            figures += BENCHMARKS[name](Path(folder))
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; emulated chips")
    print(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
