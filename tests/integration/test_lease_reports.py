"""A beat that crosses the report of an attempt is told that the attempt is over; the chip's process must not pay."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from db import job_queries, jobs
from npuq.config import Settings, Timing
from npuq.states import JobState
from tests.services.waiting import wait_until
from tests.services.world import CHIP, OWNER, World, completion
from worker.attempt_log import AttemptLog
from worker.lease import Ended, Lease


class Chip:
    """The lease of an attempt that runs on a chip, and whether its process was ended."""

    def __init__(self, world: World, folder: Path, log: AttemptLog) -> None:
        self.world = world
        self.job = world.job(JobState.RUNNING, device_id=CHIP)
        with world.database.read() as connection:
            assignment = job_queries.assignment(connection, self.job.job_id, self.job.attempt, OWNER, 60.0)
        self.ended = threading.Event()
        self.lease = Lease(world.database, Settings(home=folder, timing=Timing().scaled(0.01)), assignment, log)
        self.lease.ends_with(self.ended.set)
        self.lease.start()

    def report(self) -> None:
        """Commit the attempt's success, and wait until a beat has heard of it."""
        number = (self.job.job_id, self.job.attempt)
        self.world.transact(jobs.succeed, *number, owner=OWNER, completion=completion())
        wait_until(lambda: self.lease.ended is Ended.LOST, "a beat is told that the attempt is over")
        self.lease.stop()


@pytest.fixture
def chip(sqlite_world: World, tmp_path: Path) -> Iterator[Chip]:
    """Return a chip at work."""
    with AttemptLog(tmp_path / "log.txt", 4096) as log:
        found = Chip(sqlite_world, tmp_path, log)
        yield found
        found.lease.stop()


def test_a_beat_that_crosses_the_report_ends_nothing(chip: Chip) -> None:
    """It once killed the chip's process after one success in twenty, and all models had to be loaded again."""
    chip.lease.work_is_over()
    chip.report()
    assert not chip.ended.is_set()


def test_an_attempt_that_is_no_longer_ours_is_ended_while_it_works(chip: Chip) -> None:
    """The same answer during the work means that somebody else has the job."""
    chip.report()
    assert chip.ended.is_set()
