"""The way in: pins our package names to our own installation, then runs the command line.

The folders the customer asked for (`tasks`, `db`, `worker`, ...) are common words. A `tasks.py` in the current
directory, or a `db` package on a vendor's PYTHONPATH, would otherwise win over ours.
"""

import atexit
import gc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

OUR_PACKAGES = frozenset({"npuq", "db", "tasks", "worker", "scheduler", "emulator", "report", "cli"})
INSTALLATION = Path(__file__).resolve().parent.parent
SELDOM = 50_000
"""Objects that come to be, less those that go, before Python looks for garbage among them; by itself it takes 700."""


class OwnPackagesFinder:
    """A meta-path finder that resolves our top-level names from our installation only."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the protocol of sys.meta_path
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return the specification of one of our packages, or None for everybody else's."""
        if fullname not in OUR_PACKAGES:
            return None
        return PathFinder.find_spec(fullname, [str(INSTALLATION)], target)


def pin_own_packages() -> None:
    """Put the finder first on `sys.meta_path`; calling it twice changes nothing."""
    if not any(isinstance(finder, OwnPackagesFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, OwnPackagesFinder())


def search_garbage_seldom() -> None:
    """Spare this process most of Python's searches for garbage, and the last one, through all that it has imported.

    What is imported is no garbage, and Python looks through it again and again while it comes in: an eighth to a fifth
    of a worker's start, and of `npuq jobs list`, see `python -m benchmarks start`. Exit handlers, open files and
    threads are seen to as ever.
    """
    gc.set_threshold(SELDOM)
    atexit.register(gc.freeze)


def main() -> None:
    """Run the command line and exit with its code."""
    pin_own_packages()
    search_garbage_seldom()
    from cli.main import run

    sys.exit(run())
