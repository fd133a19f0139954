import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from db import job_queries, jobs, logs
from db.records import Assignment
from npuq.config import Settings, Timing
from npuq.errors import DatabaseError
from npuq.states import JobState
from tests.services.waiting import wait_until
from tests.services.world import HOST_ERROR, OWNER, Placed, World, decision_for
from worker import lease as lease_module
from worker.attempt_log import AttemptLog
from worker.lease import Ended, Lease

TIMING = Timing().scaled(0.01)


class Held:
    """A running attempt and its lease."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.job: Placed = world.job(JobState.RUNNING)
        self.log = AttemptLog(folder / "log.txt", 4096)
        assignment: Assignment = world.read(job_queries.assignment, self.job.job_id, 1, OWNER, 30.0)
        self.lease = Lease(world.database, Settings(home=folder, timing=TIMING), assignment, self.log)
        self.ended = threading.Event()
        assert self.lease.ends_with(self.ended.set)

    def beats(self) -> int:
        """Return how often it has beaten."""
        return self.world.attempts(self.job)[0].beats


@pytest.fixture
def held(sqlite_world: World, tmp_path: Path) -> Iterator[Held]:
    """Return a lease that has not begun to beat."""
    made = Held(sqlite_world, tmp_path)
    with made.log:
        yield made
        if made.lease._thread.is_alive():
            made.lease.stop()


def test_it_beats_and_carries_progress_and_log(held: Held) -> None:
    """What the step prints and how far it is can be read while it runs."""
    held.lease.show({"done": 1, "total": 2})
    held.log.write("hello\n")
    held.lease.start()
    wait_until(lambda: held.beats() > 2, "it beats")
    (attempt,) = held.world.attempts(held.job)
    assert attempt.progress == {"done": 1, "total": 2}
    assert [text for _, text in held.world.read(logs.read, held.job.job_id, 1)] == ["hello\n"]
    assert held.lease.ended is None


def test_a_cancel_ends_the_work(held: Held) -> None:
    """The worker hears it with the next beat."""
    held.lease.start()
    held.world.transact(jobs.request_cancel, held.job.job_id)
    assert held.ended.wait(20)
    assert held.lease.ended is Ended.CANCELLED


def test_a_lost_attempt_ends_the_work_and_overrules_a_cancel(held: Held) -> None:
    """Nothing may be written any more, not even that it was cancelled."""
    held.lease.end(Ended.CANCELLED)
    decision = decision_for(HOST_ERROR, held.world.record(held.job))
    held.world.transact(jobs.lose, held.job.job_id, 1, 1, HOST_ERROR, decision)
    held.lease.start()
    wait_until(lambda: held.lease.ended is Ended.LOST, "it hears that the attempt is lost")


def test_the_first_reason_stays(held: Held) -> None:
    """A worker that is stopped while its job is being cancelled cancels it."""
    held.lease.end(Ended.CANCELLED)
    held.lease.end(Ended.HANDED_BACK)
    assert held.lease.ended is Ended.CANCELLED
    assert not held.lease.ends_with(lambda: None)


def test_work_that_has_answered_is_not_ended(held: Held) -> None:
    """A beat that crosses the report must not end a process which may serve the next job already."""
    held.lease.work_is_over()
    held.lease.end(Ended.LOST)
    assert not held.ended.is_set()


def test_an_outage_of_the_database_ends_nothing(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work goes on and the beat asks again; when the database is back, so is the beat."""
    failures: list[int] = []
    transact = held.world.database.transact

    def away(*arguments: Any, **named: Any) -> Any:
        if threading.current_thread().name == "lease" and len(failures) < 3:
            failures.append(1)
            raise DatabaseError("the database does not answer")
        return transact(*arguments, **named)

    monkeypatch.setattr(held.world.database, "transact", away)
    held.lease.start()
    wait_until(lambda: held.beats() > 1, "it beats again")
    assert len(failures) == 3
    assert held.lease.ended is None


def test_nobody_works_alone_for_ever(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """After hours without a word nobody may remember the attempt."""

    def away(*_arguments: Any, **_named: Any) -> Any:
        raise DatabaseError("the database does not answer")

    monkeypatch.setattr(lease_module, "ALONE_SECONDS", 0.05)
    monkeypatch.setattr(held.world.database, "transact", away)
    held.lease.start()
    assert held.ended.wait(20)
    assert held.lease.ended is Ended.LOST
