"""What the scheduler's tick costs where nothing is to be done: on a new database, and behind a history of years."""

import sqlite3
import time
import uuid
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure, quantile
from db import schema
from db.artifacts import ArtifactStore
from db.engine import open_database
from npuq.celery_app import Sender
from npuq.config import Settings
from npuq.states import JobState
from scheduler.loop import Loop
from tests.services.world import World

HISTORY: Final = 100_000  #: finished jobs, each with its attempt
TICKS: Final = 50


def measure(folder: Path) -> list[Figure]:
    """Tick on SQLite; processor milliseconds, the median."""
    return [
        _idle(folder / "new", jobs=1, name="idle tick, new database"),
        _idle(folder / "old", jobs=HISTORY, name=f"idle tick, {HISTORY:,} finished jobs"),
    ]


def _idle(home: Path, *, jobs: int, name: str) -> Figure:
    home.mkdir()
    settings = Settings(home=home)
    database = open_database(settings.database)
    schema.upgrade(database)
    World(database).job(JobState.SUCCEEDED)
    database.dispose()
    _repeat_history(home / "npuq.sqlite3", jobs)
    store = ArtifactStore(settings.store, home / "cache", cache_bytes=settings.artifact_cache_bytes)
    loop = Loop(settings, database, store, Sender(settings))
    loop.run_once()  # takes the lead, ends the run
    taken = []
    for _ in range(TICKS):
        before = time.process_time()
        loop.run_once()
        taken.append(1e3 * (time.process_time() - before))
    loop.resign()
    database.dispose()
    return Figure(name=name, value=quantile(taken, 0.5), unit="ms", how=f"processor time, median of {TICKS}, SQLite")


def _repeat_history(path: Path, jobs: int) -> None:
    """Copy the only job and its attempt, under ids of their own; what guards moves does not mind what never moved."""
    with sqlite3.connect(path) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for trigger, _ in triggers:
            connection.execute(f'DROP TRIGGER "{trigger}"')
        ids = [uuid.uuid4().hex for _ in range(jobs - 1)]
        (original,) = connection.execute("SELECT id FROM jobs").fetchone()
        for table, replaced in (("jobs", ("id", "label")), ("attempts", ("job_id",))):
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            values = ", ".join("?" if name in replaced else name for name in names)
            copy = f"INSERT INTO {table} SELECT {values} FROM {table} WHERE {replaced[0]} = '{original}'"  # noqa: S608
            connection.executemany(copy, [(each,) * len(replaced) for each in ids])
        for _, statement in triggers:
            connection.execute(statement)
    connection.close()
