"""Whatever happens in whatever order, the rows stay consistent and only the holder of an attempt may end it.

Workers here are careless on purpose: they keep every message and every claim they ever had, and use them again. A few
hundred steps by default; `NPUQ_HYPOTHESIS=deep` for a long search. The invariants carry the numbers of the checker
that also judges the chaos runs.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import event, select

from db import jobs, runs, scheduling_queries
from db.engine import Database, open_database
from db.records import JobRecord
from db.tables import Artifact, Attempt, Job, JobEvent, Result, Run
from npuq.errors import Blame, ErrorInfo, SupersededError
from npuq.retry import MAX_LOSSES, decide
from npuq.states import (
    ACTIVE_ATTEMPT_STATES,
    FINAL_JOB_STATES,
    FINAL_RUN_STATES,
    JOB_MOVES,
    AttemptState,
    JobKind,
    JobState,
    RunState,
)
from tests.services.postgresql import PostgresqlServer
from tests.services.world import CHIP, LEASE_SECONDS, OTHER_CHIP, World, completion, new_result

DEEP = os.environ.get("NPUQ_HYPOTHESIS") == "deep"
CHIPS = (CHIP, OTHER_CHIP)
MAX_ATTEMPTS = 3
NUMBER = st.integers(min_value=0, max_value=1_000_000)
ERRORS = st.sampled_from([(blame, retry) for blame in Blame for retry in (False, True)])
Claim = tuple[str, int, str, str]  # job, attempt, owner, device


class Fleet(RuleBasedStateMachine):
    """Submitters, schedulers, workers and people, one step at a time."""

    def __init__(self, new_database: Callable[[], AbstractContextManager[Database]]) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.world = World(self._stack.enter_context(new_database()))
        self.jobs: list[str] = []
        self.messages: list[tuple[str, int, str]] = []
        self.claims: list[Claim] = []
        self.holders: dict[str, Claim] = {}

    def teardown(self) -> None:
        """Remove the database of this example."""
        self._stack.close()

    def _pick(self, things: list[Any], number: int) -> Any:
        return things[number % len(things)]

    def _call(self, move: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return self.world.transact(move, *arguments, **named)

    def _record(self, number: int) -> JobRecord:
        return self.world.record(self._pick(self.jobs, number))

    # --- people

    @initialize()
    def first_run(self) -> None:
        """Begin with something to do."""
        self.submit(children=1)

    @rule(children=st.integers(min_value=0, max_value=2))
    def submit(self, children: int) -> None:
        """Submit and plan a run: a job, and some that need it; the same message again changes nothing."""
        parent = self.world.new_job(JobKind.BENCHMARK, max_attempts=MAX_ATTEMPTS)
        needing = [
            self.world.new_job(JobKind.BENCHMARK, parents={"om": (parent.label,)}, max_attempts=MAX_ATTEMPTS)
            for _ in range(children)
        ]
        run_id = self.world.plan(parent, *needing)
        assert not self._call(runs.plan, run_id, [self.world.new_job()])
        self.jobs += [job.job_id for job in (parent, *needing)]

    @rule(number=NUMBER)
    def cancel(self, number: int) -> None:
        """Cancel a job."""
        job = self._record(number)
        state = self._call(jobs.request_cancel, job.job_id)
        assert state in FINAL_JOB_STATES | {JobState.RUNNING}

    @rule(number=NUMBER)
    def retry(self, number: int) -> None:
        """Retry a job."""
        job = self._record(number)
        moved = self._call(jobs.retry, job.job_id)
        assert bool(moved) == (job.state in FINAL_JOB_STATES - {JobState.SUCCEEDED})

    # --- the scheduler

    @rule()
    def release_ready(self) -> None:
        """Queue what is ready, skip what is doomed, end what is over."""
        for job in self.world.read(scheduling_queries.ready):
            assert self._call(jobs.enqueue, job.job_id, content_key=job.job_id * 2, toolchain=None)
        self._call(jobs.skip_doomed)
        self._call(runs.settle)

    @rule(number=NUMBER, chip=st.sampled_from(CHIPS))
    def dispatch(self, number: int, chip: str) -> None:
        """Give a job to a chip, busy or not."""
        job = self._record(number)
        given = self._call(jobs.dispatch, job.job_id, job.attempt, chip)
        assert given == (job.state is JobState.QUEUED)
        if given:
            self.messages.append((job.job_id, job.attempt + 1, chip))

    @rule(number=NUMBER)
    def withdraw(self, number: int) -> None:
        """Take back what nobody claimed."""
        job = self._record(number)
        taken = self._call(jobs.withdraw, job.job_id, job.attempt, "a better place")
        assert taken == (job.state is JobState.DISPATCHED)

    @rule(number=NUMBER, behind=st.sampled_from([0, 0, 1]))
    def lose(self, number: int, behind: int) -> None:
        """Declare an attempt lost; `behind`: it has beaten since it was looked at."""
        job = self._record(number)
        beats = {attempt.number: attempt.beats for attempt in self.world.attempts(job.job_id)}.get(job.attempt, 0)
        if job.attempt == 0:
            return
        error = ErrorInfo(code="attempt_lost", blame=Blame.HOST, message="silent", retry=True)
        decision = self._decide(job, error, number)
        lost = self._call(jobs.lose, job.job_id, job.attempt, beats - behind, error, decision)
        assert lost == (job.state is JobState.RUNNING and behind == 0)
        if lost:
            del self.holders[job.job_id]

    # --- workers

    @precondition(lambda self: self.messages)
    @rule(number=NUMBER, owner=st.sampled_from(["a", "b"]), chip=st.sampled_from((None, *CHIPS)))
    def claim(self, number: int, owner: str, chip: str | None) -> None:
        """Answer a message: fresh, doubled, stale, or somebody else's."""
        job_id, attempt, device = self._pick(self.messages, number)
        claim = (job_id, attempt, owner, device)
        job = self.world.record(job_id)
        busy = any(holder[3] == device for holder in self.holders.values())
        free = job.state is JobState.DISPATCHED and job.attempt == attempt and not busy and chip in {None, device}
        try:
            self._call(jobs.claim, job_id, attempt, owner=owner, devices=[chip or device], lease_seconds=LEASE_SECONDS)
        except SupersededError:
            assert not free
            assert self.holders.get(job_id) != claim or chip not in {None, device}
        else:
            assert free or self.holders[job_id] == claim
            self.holders[job_id] = claim
            self.claims.append(claim)

    def _held(self, claim: Claim, move: Callable[..., Any], done: AttemptState, **named: Any) -> bool:
        """Let a worker make a move: it works exactly for the holder, and is harmless for who has made it already."""
        job_id, attempt, owner, _ = claim
        before = {row.number: row.state for row in self.world.attempts(job_id)}[attempt]
        try:
            self._call(move, job_id, attempt, owner=owner, **named)
        except SupersededError:
            assert self.holders.get(job_id) != claim
            return False
        assert self.holders.get(job_id) == claim or before is done
        return self.holders.get(job_id) == claim

    @precondition(lambda self: self.claims)
    @rule(number=NUMBER)
    def beat(self, number: int) -> None:
        """Beat, perhaps for an attempt that was lost long ago."""
        claim = self._pick(self.claims, number)
        self._held(claim, jobs.beat, AttemptState.RUNNING, lease_seconds=LEASE_SECONDS)

    @precondition(lambda self: self.claims)
    @rule(number=NUMBER)
    def succeed(self, number: int) -> None:
        """Report success with a result, perhaps again, perhaps far too late."""
        claim = self._pick(self.claims, number)
        done = completion(result=new_result(device_id=claim[3]))
        if self._held(claim, jobs.succeed, AttemptState.SUCCEEDED, completion=done):
            del self.holders[claim[0]]

    @precondition(lambda self: self.claims)
    @rule(number=NUMBER, kind=ERRORS)
    def fail(self, number: int, kind: tuple[Blame, bool]) -> None:
        """Report a failure."""
        claim = self._pick(self.claims, number)
        error = ErrorInfo(code="x", blame=kind[0], message="it failed", retry=kind[1])
        decision = self._decide(self.world.record(claim[0]), error, number)
        if self._held(claim, jobs.fail, AttemptState.FAILED, error=error, decision=decision):
            del self.holders[claim[0]]

    @precondition(lambda self: self.claims)
    @rule(number=NUMBER)
    def hand_back(self, number: int) -> None:
        """Hand an attempt back unharmed."""
        claim = self._pick(self.claims, number)
        if self._held(claim, jobs.release, AttemptState.RELEASED, reason="stopping"):
            del self.holders[claim[0]]

    @precondition(lambda self: self.claims)
    @rule(number=NUMBER)
    def finish_cancel(self, number: int) -> None:
        """Report that the processes of a cancelled attempt are gone."""
        claim = self._pick(self.claims, number)
        if not self.world.record(claim[0]).cancel_requested:
            return
        if self._held(claim, jobs.finish_cancel, AttemptState.CANCELLED):
            del self.holders[claim[0]]

    def _decide(self, job: JobRecord, error: ErrorInfo, seed: int) -> Any:
        return decide(
            error, failures=job.failures, losses=job.losses, max_attempts=job.max_attempts, random=Random(seed)
        )

    # --- what must always hold

    @invariant()
    def rows_are_consistent(self) -> None:
        """I1-I5, I7, I8, read back from the rows."""
        with self.world.database.read() as connection:
            found = connection.execute(select(Job.__table__)).all()
            attempts = connection.execute(select(Attempt.__table__).order_by(Attempt.number)).all()
            results = connection.execute(select(Result.__table__)).all()
            events = connection.execute(select(JobEvent.__table__).order_by(JobEvent.id)).all()
            stored = set(connection.execute(select(Artifact.digest)).scalars())
            ended = connection.execute(select(Run.id, Run.state).where(Run.state.in_(FINAL_RUN_STATES))).all()
        assert {job.id for job in found} == set(self.jobs)  # I1: none is lost, none appears from nowhere
        results_of = Counter(result.job_id for result in results)
        state_of = {(attempt.job_id, attempt.number): attempt.state for attempt in attempts}
        for job in found:
            own = [attempt for attempt in attempts if attempt.job_id == job.id]
            active = [attempt for attempt in own if attempt.state in ACTIVE_ATTEMPT_STATES]
            assert results_of[job.id] == (1 if job.state is JobState.SUCCEEDED else 0)  # I2, I7
            assert len(active) == (1 if job.state in {JobState.DISPATCHED, JobState.RUNNING} else 0)  # I3
            assert [attempt.number for attempt in own] == list(range(1, job.attempt + 1))  # I4
            assert job.failures <= MAX_ATTEMPTS
            assert job.losses <= MAX_LOSSES + 1
            assert {digest for digests in job.outputs.values() for digest in digests} <= stored  # I5
            self._replay(job, [event for event in events if event.job_id == job.id])
        assert all(state_of[result.job_id, result.attempt] is AttemptState.SUCCEEDED for result in results)  # I2
        running = [attempt.device_id for attempt in attempts if attempt.state is AttemptState.RUNNING]
        assert len(running) == len(set(running)) == len(self.holders)  # I3
        for run_id, state in ended:
            states = {job.state for job in found if job.run_id == run_id}
            assert states <= FINAL_JOB_STATES
            assert (state is RunState.SUCCEEDED) == (states == {JobState.SUCCEEDED})

    def _replay(self, job: Any, events: list[Any]) -> None:
        """I8: the log begins with the birth, makes legal moves only, and ends where the job is."""
        state: JobState | None = None
        for moved in events:
            assert moved.from_state == (None if state is None else state.value)
            after = JobState(moved.to_state)
            assert state is None or (state, after) in JOB_MOVES
            state = after
        assert state is job.state


@contextmanager
def sqlite_copy(template: Path) -> Iterator[Database]:
    """Open a copy of an empty database for one example."""
    with tempfile.TemporaryDirectory(prefix="npuq-model-") as folder:
        path = Path(folder) / "npuq.sqlite3"
        shutil.copyfile(template, path)
        database = open_database(f"sqlite:///{path}")
        event.listen(database.engine, "connect", lambda raw, _record: raw.execute("PRAGMA synchronous=OFF"))
        yield database
        database.dispose()


@contextmanager
def postgresql_copy(server: PostgresqlServer) -> Iterator[Database]:
    """Open a database of its own for one example."""
    with server.database() as url:
        database = open_database(url)
        yield database
        database.dispose()


def search(new_database: Callable[[], AbstractContextManager[Database]], examples: int) -> None:
    """Look for a sequence of events that breaks an invariant."""

    class FleetThere(Fleet):
        """The fleet on that kind of database; Hypothesis makes one for each example."""

        def __init__(self) -> None:
            super().__init__(new_database)

    run_state_machine_as_test(
        FleetThere,
        settings=settings(
            max_examples=2_000 if DEEP else examples,
            stateful_step_count=100 if DEEP else 50,
            deadline=None,
            database=None,
            derandomize=not DEEP,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(7_200 if DEEP else 60)
def test_no_sequence_of_events_breaks_the_rows(sqlite_template: Path) -> None:
    """The stateful search, with a bound that fits every change."""
    search(partial(sqlite_copy, sqlite_template), examples=20)


@pytest.mark.timeout(7_200 if DEEP else 90)
def test_no_sequence_of_events_breaks_the_rows_on_postgresql(postgresql_server: PostgresqlServer) -> None:
    """The same search where the guards are another dialect's; a step costs more there."""
    search(partial(postgresql_copy, postgresql_server), examples=5)
