"""One run of chaos: a real fleet, runs of short jobs, faults from a seeded schedule, and the verdict.

One thread does everything in turns: it keeps the services running as a host's service manager would, does what
people do (submit, cancel, retry what is held), strikes, and looks whether all is done. Every wait has a limit.
"""

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from sqlalchemy import func, select

from db import jobs
from db.engine import Database
from db.tables import Job, Run
from emulator import diary
from npuq.errors import DatabaseError
from npuq.specs import RunSpec
from npuq.states import FINAL_JOB_STATES, FINAL_RUN_STATES, AttemptState, JobKind, JobState
from tests.chaos import checker, schedule
from tests.chaos.checker import Violation
from tests.chaos.evidence import Evidence, count_events, read_evidence
from tests.chaos.faults import Arena
from tests.chaos.schedule import FaultKind, PlannedFault
from tests.fleet import models
from tests.fleet.fleet import DatabaseKind, Fleet, FleetPlan
from tests.services.waiting import wait_until

TURN_SECONDS: Final = 0.05
LOOK_SECONDS: Final = 0.5
OPEN_JOBS_AHEAD: Final = 60
"""Runs are submitted so that about this many jobs are open: work arrives while faults strike."""
CALM_SHARE: Final = 0.95
"""Faults end when this share of the jobs is final: what they did has to heal without help."""
ANSWER_LIMIT_SECONDS: Final = 60.0
REFUSALS: Final = ("attempt_superseded", "attempt_dropped", "doorbell_ignored")


@dataclass(frozen=True, kw_only=True)
class ChaosPlan:
    """What is asked for.

    Attributes:
        jobs: benchmark jobs in all.
        seed: of everything random.
        chips: emulated chips.
        database: of which kind.
        mean_wait_seconds: between two faults.
        limit_seconds: for everything after the start of the fleet.
        service_ms: of one execution; a job makes `loops` of them.
        loops: executions per job.
    """

    jobs: int
    seed: int
    chips: int = 4
    database: DatabaseKind = "sqlite"
    mean_wait_seconds: float = 1.0
    limit_seconds: float = 600.0
    service_ms: float = 20.0
    loops: int = 5


@dataclass(frozen=True, kw_only=True)
class ChaosReport:
    """What came of it. `unfinished`: not everything was final in time."""

    plan: ChaosPlan
    faults: dict[FaultKind, int]
    attempts: Counter[AttemptState]
    outcomes: Counter[JobState]
    refused: dict[str, int]
    retried: int
    seconds: float
    unfinished: bool
    violations: list[Violation] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Tell whether every promise was kept."""
        return not self.violations and not self.unfinished

    def line(self) -> str:
        """Return the one line that is printed per run."""
        plan = self.plan
        verdict = "all promises kept" if self.kept else f"{len(self.violations)} VIOLATIONS"
        return (
            f"chaos seed={plan.seed} jobs={plan.jobs} chips={plan.chips} database={plan.database}"
            f" faults={sum(self.faults.values())} ({_counts(self.faults)})"
            f" attempts={sum(self.attempts.values())} ({_counts(self.attempts)}) jobs: {_counts(self.outcomes)};"
            f" held and retried={self.retried} refused: {_counts(self.refused)}; {self.seconds:.0f} s:"
            f" {'NOT FINISHED, ' if self.unfinished else ''}{verdict}"
        )


def _counts(counts: dict[FaultKind, int] | Counter[AttemptState] | Counter[JobState] | dict[str, int]) -> str:
    return " ".join(f"{name}={count}" for name, count in sorted(counts.items()) if count)


def run_chaos(plan: ChaosPlan, folder: Path) -> ChaosReport:
    """Do it in an empty folder, which keeps everything for a look afterwards: logs, database, diary, faults."""
    fleet_plan = FleetPlan(chips=plan.chips, database=plan.database, schedulers=2, service_ms=plan.service_ms)
    with Fleet(folder / "home", fleet_plan) as fleet:
        driver = Driver(plan, fleet, folder / "faults.log")
        began = time.monotonic()
        try:
            finished = driver.run()
        finally:
            driver.close()
        seconds = time.monotonic() - began
        fleet.stop()  # late completions are heard before anything is judged
        wait_until(partial(_answers, fleet.client.database), "the database answers", ANSWER_LIMIT_SECONDS)
        entries = diary.read(fleet.emulator_home / "diary.jsonl")
        evidence = read_evidence(fleet.client.database, fleet.client.store, entries, driver.submitted, driver.cancelled)
        return ChaosReport(
            plan=plan,
            faults=dict(driver.struck),
            attempts=Counter(attempt.state for attempt in evidence.attempts),
            outcomes=_outcomes(evidence),
            refused=count_events(fleet.log_folder, REFUSALS),
            retried=driver.retried,
            seconds=seconds,
            unfinished=not finished,
            violations=checker.check(evidence),
        )


def _answers(database: Database) -> bool:
    """Tell whether a database that was killed at the very end has recovered."""
    try:
        with database.read() as connection:
            return bool(connection.execute(select(1)).scalar_one())
    except DatabaseError:
        return False


def _outcomes(evidence: Evidence) -> Counter[JobState]:
    return Counter(job.state for job in evidence.jobs if job.kind is JobKind.BENCHMARK)


class Driver:
    """The run itself."""

    def __init__(self, plan: ChaosPlan, fleet: Fleet, fault_log: Path) -> None:
        self._plan = plan
        self._fleet = fleet
        self._log = fault_log
        self._arena = Arena(fleet)
        self._random = Random(f"{plan.seed}/driver")
        source = models.upload(fleet.client, models.write_tiny_onnx(fault_log.with_name("tiny.onnx")))
        self._specs = models.draw_specs(source, plan.jobs, Random(f"{plan.seed}/runs"), loops=plan.loops)
        self._next_look = 0.0
        self._final = 0
        self._sent = 0
        self.submitted: dict[str, int] = {}
        self.struck: Counter[FaultKind] = Counter()
        self.retried = 0

    @property
    def cancelled(self) -> frozenset[str]:
        """Return the jobs that were cancelled, or whose cancel got no answer."""
        return frozenset(self._arena.cancelled)

    def run(self) -> bool:
        """Run until everything is final; False when it is not within the limit."""
        began = time.monotonic()
        faults = schedule.faults(
            self._plan.seed, mean_wait_seconds=self._plan.mean_wait_seconds, database=self._plan.database
        )
        fault = next(faults)
        strike_at = began + fault.wait_seconds
        for now in _turns(began + self._plan.limit_seconds):
            self._keep_running(now)
            self._arena.turn(now)
            if now >= self._next_look:
                self._next_look = now + LOOK_SECONDS
                if self._look():
                    return True
            if now >= strike_at and not self._calm:
                self._strike(fault, now - began)
                fault = next(faults)
                strike_at = now + fault.wait_seconds
        return False

    @property
    def _calm(self) -> bool:
        return self._final >= CALM_SHARE * self._plan.jobs

    def _keep_running(self, now: float) -> None:
        for service in self._fleet.services:
            service.tend(now, self._random.uniform(0.2, 1.5))

    def _strike(self, fault: PlannedFault, at: float) -> None:
        hit = self._arena.strike(fault, time.monotonic())
        self.struck[fault.kind] += hit is not None
        with self._log.open("a") as log:
            log.write(f"{at:8.2f} {fault.kind} {'nothing to hit' if hit is None else hit}\n")

    def _look(self) -> bool:
        """Do what people do; returns whether all is done. A database that is away is asked again next time."""
        self._submit_some()
        self._fleet.client.flush_outbox()
        try:
            self._retry_held()
            with self._fleet.client.database.read() as connection:
                final = select(func.count()).where(
                    Job.kind == JobKind.BENCHMARK, Job.state.in_(FINAL_JOB_STATES - {JobState.HELD, JobState.FAILED})
                )
                self._final = connection.execute(final).scalar_one()
                ended = select(func.count()).select_from(Run).where(Run.state.in_(FINAL_RUN_STATES))
                runs = connection.execute(ended).scalar_one()
        except DatabaseError:
            return False
        return bool(not self._specs and self._final >= self._plan.jobs and runs == len(self.submitted))

    def _submit_some(self) -> None:
        while self._specs and self._sent - self._final < OPEN_JOBS_AHEAD:
            spec = self._specs.pop()
            self.submitted[spec.run_id] = _width(spec)
            self._sent += _width(spec)
            self._fleet.client.submit(spec, wait_seconds=0.0)

    def _retry_held(self) -> None:
        """Retry, as a person would, what chance took down more than three times."""
        database = self._fleet.client.database
        with database.read() as connection:
            held = connection.execute(select(Job.id).where(Job.state == JobState.HELD)).scalars().all()
        for job_id in held:
            moved = database.transact(lambda c, j=job_id: jobs.retry(c, j), patience_seconds=1.0)  # type: ignore[misc]
            self.retried += bool(moved)

    def close(self) -> None:
        """Wake who is stopped, start what is dead: what follows is the ordinary end of a fleet."""
        self._arena.close()
        for service in self._fleet.services:
            if not service.alive:
                service.start()


def _width(spec: RunSpec) -> int:
    return len(spec.batch_sizes) * len(spec.precisions)


def _turns(until: float) -> Iterator[float]:
    """Yield the monotonic time of each turn, until the limit."""
    for _ in itertools.count():
        now = time.monotonic()
        if now > until:
            return
        yield now
        time.sleep(TURN_SECONDS)  # the pace of the turns; nothing is waited for
