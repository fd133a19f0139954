"""What starting and ending cost: a command that reads the database, a worker's imports; with and without savings."""

import sys
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure, quantile
from benchmarks.processor_time import processor_seconds
from db import schema
from db.engine import open_database
from npuq.config import Settings
from npuq.entry import INSTALLATION

REPEATS: Final = 9
LIMIT_SECONDS: Final = 60.0
_PLAIN: Final = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from npuq import entry;"
    " entry.search_garbage_seldom = lambda: None; entry.main()"
)
_IMPORT: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from npuq import entry; entry.search_garbage_seldom();"
    " import worker.serve, celery.apps.worker"
)
_PLAIN_IMPORT: Final = "import sys; sys.path.insert(0, sys.argv[1]); import worker.serve, celery.apps.worker"


def measure(folder: Path) -> list[Figure]:
    """Start each program several times, in turns; processor seconds, of which a start consists."""
    settings = Settings(home=folder)
    database = open_database(settings.database)
    schema.upgrade(database)
    database.dispose()
    npuq = [str(Path(sys.executable).parent / "npuq"), "--home", str(folder)]
    commands = {
        "npuq --help": [*npuq, "--help"],
        "npuq jobs list": [*npuq, "jobs", "list"],
        "npuq jobs list, with all searches for garbage": [
            *(sys.executable, "-c", _PLAIN, str(INSTALLATION)),
            *("--home", str(folder), "jobs", "list"),
        ],
        "a worker": [sys.executable, "-c", _IMPORT, str(INSTALLATION)],
        "a worker, with all searches for garbage": [sys.executable, "-c", _PLAIN_IMPORT, str(INSTALLATION)],
        "a worker by Celery's CLI": [sys.executable, "-c", f"{_IMPORT}, celery.bin.celery", str(INSTALLATION)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(REPEATS):
        for name, command in commands.items():
            seconds[name].append(processor_seconds(command, limit_seconds=LIMIT_SECONDS))
    how = f"processor time, median of {REPEATS} starts in turns"
    return [
        Figure(name=f"start of {name}", value=quantile(taken, 0.5), unit="s", how=how)
        for name, taken in seconds.items()
    ]
