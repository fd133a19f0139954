"""Commits whose answer is lost: executed or not, every job still happens exactly once."""

from collections.abc import Callable
from random import Random
from typing import Any, Self

import pytest

from db import jobs, results, scheduling_queries
from db.engine import Database
from npuq.errors import DatabaseError
from npuq.retry import Decision
from npuq.states import AttemptState, JobKind, JobState
from tests.services.world import (
    CHIP,
    HOST_ERROR,
    LEASE_SECONDS,
    OTHER_CHIP,
    OWNER,
    World,
    completion,
    new_result,
)

EXECUTED_SHARE = 0.2
REFUSED_SHARE = 0.1
JOBS = 12


class LostAnswers:
    """Commits that run and then time out, and commits that fail before they run; seeded."""

    def __init__(self, database: Database, seed: int) -> None:
        self._dialect: Any = database.engine.dialect
        self._commit: Callable[[Any], None] = self._dialect.do_commit
        self._random = Random(seed)
        self.executed = 0
        self.refused = 0

    def __enter__(self) -> Self:
        self._dialect.do_commit = self._do_commit
        return self

    def __exit__(self, *_exception: object) -> None:
        self._dialect.do_commit = self._commit

    def _do_commit(self, connection: Any) -> None:
        draw = self._random.random()
        if draw < REFUSED_SHARE:
            self.refused += 1
            raise self._timeout()
        self._commit(connection)
        if draw < REFUSED_SHARE + EXECUTED_SHARE:
            self.executed += 1
            raise self._timeout()

    def _timeout(self) -> Exception:
        if self._dialect.name == "sqlite":
            error: Exception = self._dialect.dbapi.OperationalError("timeout: the answer was lost")
        else:
            error = self._dialect.dbapi.InterfaceError("network error: the answer was lost")
        return error


def test_every_job_happens_exactly_once(world: World) -> None:
    """A fifth of all commits time out after they ran, a tenth before: nothing is lost, nothing counts twice."""
    placed = [world.job(JobState.QUEUED, JobKind.BENCHMARK) for _ in range(JOBS)]
    with LostAnswers(world.database, seed=7) as lost:
        for number, job in enumerate(placed):
            device = (CHIP, OTHER_CHIP)[number % 2]
            # `transact` repeats a move whose answer was lost; then it finds its own traces and may say "nothing to do"
            world.transact(jobs.dispatch, job.job_id, 0, device)
            world.transact(jobs.mark_published, [(job.job_id, 1)])
            claim = {"owner": OWNER, "devices": [device], "lease_seconds": LEASE_SECONDS}
            assert world.transact(jobs.claim, job.job_id, 1, **claim) == device
            world.transact(jobs.beat, job.job_id, 1, owner=OWNER, lease_seconds=LEASE_SECONDS)
            done = completion(result=new_result(device_id=device))
            world.transact(jobs.succeed, job.job_id, 1, owner=OWNER, completion=done)
    assert lost.executed > 0
    assert lost.refused > 0
    assert {world.state(job) for job in placed} == {JobState.SUCCEEDED}
    assert all(world.attempt_states(job) == [AttemptState.SUCCEEDED] for job in placed)
    assert sorted(result.job_id for result in world.read(results.find)) == sorted(job.job_id for job in placed)
    assert world.read(scheduling_queries.active) == []


def test_a_failure_is_counted_once(world: World) -> None:
    """However often the answer of a failure is lost, the job's budget is burned once."""
    placed = [world.job(JobState.QUEUED) for _ in range(JOBS)]
    again = Decision(state=JobState.QUEUED, failures=0, losses=1)
    with LostAnswers(world.database, seed=11) as lost:
        for job in placed:
            world.transact(jobs.dispatch, job.job_id, 0, CHIP)
            world.transact(jobs.claim, job.job_id, 1, owner=OWNER, devices=[CHIP], lease_seconds=LEASE_SECONDS)
            world.transact(jobs.fail, job.job_id, 1, owner=OWNER, error=HOST_ERROR, decision=again)
    assert lost.executed > 0
    assert {(record.state, record.losses, record.attempt) for record in map(world.record, placed)} == {
        (JobState.QUEUED, 1, 1)
    }


def test_patience_has_an_end(sqlite_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that stays away is reported as such, with advice, and without the password."""
    dialect: Any = sqlite_world.database.engine.dialect

    def locked(_connection: Any) -> None:
        raise dialect.dbapi.OperationalError("database is locked")

    monkeypatch.setattr(dialect, "do_commit", locked)
    with pytest.raises(DatabaseError, match=r"does not answer .*check that it is up") as caught:
        sqlite_world.database.transact(lambda _connection: None, patience_seconds=0.05)
    assert caught.value.info.retry
