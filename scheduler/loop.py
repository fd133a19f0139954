"""The reconcile loop: repairs every difference between what the rows say and what is.

Safe to run anywhere, any number of times, even twice at once: every move it makes is guarded by the database. It
reads a snapshot, calls the pure parts, writes, and rings doorbells after the commit. `run_once` is what tests call.
"""

import secrets
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from db import devices, job_queries, jobs, leadership, open_work, runs, scheduling_queries
from db.artifacts import ArtifactStore
from db.engine import Database
from db.open_work import OpenWork
from db.records import ActiveAttempt, DeviceRecord, JobRecord
from npuq.celery_app import Sender
from npuq.clock import Clock, SystemClock
from npuq.config import Settings
from npuq.errors import Blame, ErrorInfo
from npuq.log import get_logger
from npuq.retry import decide
from npuq.states import DEVICE_KIND_OF_JOB, AttemptState, DeviceKind, JobKind
from scheduler import companions, dispatch, intake, placement, release
from scheduler.durations import Durations
from scheduler.reaper import Witness

LEAD_TICKS: Final = 15
"""The lead is kept for this many ticks and renewed every third of them."""
MAX_PUBLISHES: Final = 3
QUEUE_WINDOW: Final = 500
QUEUE_WINDOW_PER_SEAT: Final = 4
"""Queued jobs looked at in one tick, in all and of each run for each device that can take one: enough to choose from,
more would only cost time, and no run hides the others."""
log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Sight:
    """What one look at the rows has shown."""

    work: OpenWork
    fleet: list[DeviceRecord]
    active: list[ActiveAttempt]


class Loop:
    """One scheduler."""

    def __init__(
        self, settings: Settings, database: Database, store: ArtifactStore, sender: Sender, clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._timing = settings.timing
        self._database = database
        self._store = store
        self._sender = sender
        self._clock: Clock = clock or SystemClock()
        self._owner = secrets.token_hex(16)
        self._witness = Witness(settings.timing)
        self._durations = Durations()
        self._random = Random()  # noqa: S311 - jitter
        self._lead_until = float("-inf")

    def run_once(self) -> int:
        """Do everything that is to be done now; returns how many moves were made, 0 when another scheduler leads."""
        if not self._leads():
            return 0
        sight = self._look()
        moves = self._reap(sight) + self._withdraw(sight)
        if moves:
            sight = self._look()
        if sight.work.any:
            prepared = self._prepare(sight.work)
            if prepared:
                moves += prepared
                sight = self._look()
        placed = 0
        if sight.work.queued_jobs:
            moves += self._give_up_stranded(sight)
            placed = self._place(sight)
            if placed:
                sight = self._look()
        self._ring(sight)
        self._restart_silent(sight)
        return moves + placed

    def resign(self) -> None:
        """Give the lead up; for a scheduler that stops in good order."""
        self._database.transact(lambda connection: leadership.resign(connection, self._owner), patience_seconds=2.0)

    @property
    def leads(self) -> bool:
        """Whether this scheduler led at its last tick."""
        return self._clock.monotonic() < self._lead_until

    def _leads(self) -> bool:
        ttl = LEAD_TICKS * self._timing.tick_seconds
        now = self._clock.monotonic()
        if now < self._lead_until - ttl * 2 / 3:
            return True
        held = self._database.transact(
            lambda connection: leadership.hold(connection, self._owner, ttl), patience_seconds=5.0
        )
        # Counted from before the call: our belief ends before the database's does.
        self._lead_until = now + ttl - self._timing.tick_seconds if held else float("-inf")
        return held

    def _prepare(self, work: OpenWork) -> int:
        """Plan, release and settle until nothing moves: a reused job makes its children ready at once."""
        total = 0
        if work.submitted_runs:
            total += intake.plan_submitted(self._database, self._settings)
            work = self._look_for_work()
        deadline = self._clock.monotonic() + self._timing.tick_seconds
        while work.unfinished_jobs and self._clock.monotonic() < deadline:  # the rest of an enormous run waits
            released = 0
            if work.waiting_jobs:
                released += release.release_ready(self._database, self._settings, self._store.exists)
            released += companions.settle(self._database)
            if not released:
                break
            total += released
            work = self._look_for_work()
        if work.settled_runs:
            for run_id in self._database.transact(runs.settle):
                log.info("run_ended", run_id=run_id)
                total += 1
        return total

    def _look(self) -> _Sight:
        with self._database.read() as connection:
            return _Sight(
                work=open_work.look(connection),
                fleet=devices.find(connection, suspect_seconds=self._timing.suspect_seconds),
                active=scheduling_queries.active(connection),
            )

    def _look_for_work(self) -> OpenWork:
        with self._database.read() as connection:
            return open_work.look(connection)

    def _reap(self, sight: _Sight) -> int:
        lost = self._witness.lost(sight.active, self._clock.monotonic())
        return sum(self._lose(attempt) for attempt in lost)

    def _lose(self, attempt: ActiveAttempt) -> bool:
        error = ErrorInfo(
            code="attempt_lost",
            blame=Blame.HOST,
            message=f"the worker of {attempt.device_id} went silent in attempt {attempt.number}; its work is redone",
            retry=True,
        )
        with self._database.read() as connection:
            job = job_queries.get(connection, attempt.job_id)
        if job is None:
            return False
        decision = decide(
            error, failures=job.failures, losses=job.losses, max_attempts=job.max_attempts, random=self._random
        )
        log.warning("attempt_lost", job_id=attempt.job_id, attempt=attempt.number, device=attempt.device_id)
        return self._database.transact(
            lambda c: jobs.lose(c, attempt.job_id, attempt.number, attempt.beats, error, decision)
        )

    def _withdraw(self, sight: _Sight) -> int:
        dispatched = [attempt.job_id for attempt in sight.active if attempt.state is AttemptState.DISPATCHED]
        if not dispatched:
            return 0
        with self._database.read() as connection:
            known = {job.job_id: job for job in job_queries.get_many(connection, dispatched)}
        unwanted = placement.to_withdraw(
            sight.active,
            sight.fleet,
            known,
            max_publishes=MAX_PUBLISHES,
            resend_seconds=self._timing.resend_seconds,
        )
        moved = 0
        for attempt, reason in unwanted:
            log.info("attempt_withdrawn", job_id=attempt.job_id, attempt=attempt.number, reason=reason)
            moved += self._database.transact(
                lambda c, a=attempt, r=reason: jobs.withdraw(  # type: ignore[misc]
                    c, a.job_id, a.number, r, avoid=a.publishes >= MAX_PUBLISHES
                )
            )
        return moved

    def _place(self, sight: _Sight) -> int:
        fleet, active = sight.fleet, sight.active
        with self._database.read() as connection:
            self._durations.learn(connection)
            seats = placement.open_seats(fleet, active, self._durations.estimates)
            if not seats:
                return 0
            kinds = {device.kind for device in seats}
            queued = scheduling_queries.queued(
                connection,
                soc_versions=sorted({device.soc_version for device in seats if device.soc_version}),
                toolchains=sorted({toolchain for device in seats for toolchain in device.toolchains}),
                device_ids=[device.device_id for device in seats],
                kinds=[kind for kind, device_kind in DEVICE_KIND_OF_JOB.items() if device_kind in kinds],
                per_run=QUEUE_WINDOW_PER_SEAT * len(seats),
                limit=QUEUE_WINDOW,
            )
            leads = scheduling_queries.queued(
                connection,
                soc_versions=sorted({device.soc_version for device in seats if device.soc_version}),
                toolchains=(),
                device_ids=(),
                kinds=[JobKind.BENCHMARK],
                per_run=len(seats),
                limit=QUEUE_WINDOW,
                lead=True,
            )
            together = scheduling_queries.ready_together(connection, [lead.job_id for lead in leads]) if leads else {}
            queued = [
                job
                for job in sorted([*queued, *leads], key=lambda job: (-job.priority, job.created_at, job.ordinal))
                if not self._refused_everywhere(together.get(job.job_id, [job]), fleet)
            ]
            if not queued:
                return 0
            models = scheduling_queries.models(connection, [job.job_id for job in queued])
        chosen = placement.place(
            queued, fleet, active, models=models, estimates=self._durations.estimates, together=together
        )
        if not chosen:
            return 0
        of_cards = {job.job_id: lead for lead, members in together.items() for job in members}
        alone = [item for item in chosen if item.job_id not in of_cards]
        placed = self._database.transact(lambda connection: dispatch.write(connection, alone)) if alone else 0
        for lead in dict.fromkeys(of_cards[item.job_id] for item in chosen if item.job_id in of_cards):
            members = [item for item in chosen if of_cards.get(item.job_id) == lead]
            placed += dispatch.write_together(self._database, members)
        return placed

    def _give_up_stranded(self, sight: _Sight) -> int:
        """Fail conversions whose toolchain no host has any more: it was upgraded after they were queued."""
        toolchains = sorted({each for device in sight.fleet if not device.forgotten for each in device.toolchains})
        with self._database.read() as connection:
            stranded = scheduling_queries.stranded(connection, toolchains)
        for job in stranded:
            error = ErrorInfo(
                code="toolchain_gone",
                blame=Blame.HOST,
                message=f"no host has {job.toolchain} any more; `npuq retry` uses the one that is there",
                retry=False,
            )
            self._database.transact(partial(jobs.give_up, job_id=job.job_id, error=error))
        return len(stranded)

    def _refused_everywhere(self, together: list[JobRecord], fleet: list[DeviceRecord]) -> bool:
        """Fail what every host which could run it has refused; whether that was so.

        The jobs for a card need one host that has refused none of them.
        """
        refused = [(job.job_id, job.error) for job in together if job.refused_hosts and job.error is not None]
        if not refused:
            return False
        if any(not device.forgotten and all(placement.can_run(device, job) for job in together) for device in fleet):
            return False
        for job_id, error in refused:  # the last refusal is the reason
            self._database.transact(partial(jobs.give_up, job_id=job_id, error=error))
        return True

    def _ring(self, sight: _Sight) -> None:
        bells = dispatch.due(sight.active, resend_seconds=self._timing.resend_seconds)
        if bells:
            slots = {device.device_id: device.host for device in sight.fleet if device.kind is DeviceKind.HOST}
            dispatch.ring(self._database, self._sender, bells, slots)

    def _restart_silent(self, sight: _Sight) -> None:
        """Ask for a restart of workers that do not answer although their host is alive: they have stopped consuming."""
        running = {attempt.device_id for attempt in sight.active if attempt.state is AttemptState.RUNNING}
        working = {device.device_id for device in sight.fleet if placement.is_working(device)}
        for attempt in sight.active:
            silent = (
                attempt.state is AttemptState.DISPATCHED
                and attempt.device_id in working - running
                and attempt.publishes >= MAX_PUBLISHES - 1
                and (attempt.unanswered_seconds or 0.0) > self._timing.resend_seconds
            )
            if silent:
                log.warning("worker_silent", device=attempt.device_id, job_id=attempt.job_id)
                device_id = attempt.device_id
                self._database.transact(lambda c, d=device_id: devices.ask_restart(c, d))  # type: ignore[misc]
