"""One attempt from doorbell to outcome: claim, prepare, run in a child, report.

The child does the work and may die; this process holds the lease and must not. Nothing here decides what becomes of a
failed job (`npuq.retry` does) and nothing is written that the fence has not let through.
"""

import secrets
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from db import devices, job_queries, jobs
from db.artifacts import ArtifactStore
from db.engine import Database
from db.records import Assignment, Completion, NewArtifact
from npuq.celery_app import Sender
from npuq.config import Settings
from npuq.errors import ArtifactError, Blame, DatabaseError, ErrorInfo, InvalidRequestError, NpuqError, SupersededError
from npuq.log import get_logger
from npuq.messages import parse_run_attempt
from npuq.retry import convict, decide
from npuq.states import DeviceCause, DeviceState
from tasks.card_meeting import LEAD_GONE
from tasks.steps import StepOutcome, StepRequest
from worker.attempt_log import AttemptLog
from worker.child import Child, EndResult
from worker.child_protocol import Progress
from worker.device_faults import note_error
from worker.lease import ALONE_SECONDS, Ended, Lease
from worker.provenance import facts_of, result_of, trouble_of
from worker.step_errors import log_text
from worker.workspace import Workspace

CLAIM_PATIENCE_SECONDS: Final = 30.0
HAND_BACK_GRACE_SECONDS: Final = 2.0
_HANDED_BACK: Final = "handed back: its worker was stopped, or its chip is sick"
log = get_logger(__name__)

ChildSource = Callable[[Assignment], Child]
"""Returns a started child for an assignment: a kept one for a chip, a fresh one for host work."""


class Runner:
    """Runs attempts for the devices of one worker process."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        store: ArtifactStore,
        sender: Sender,
        device_ids: Sequence[str],
        children: ChildSource,
    ) -> None:
        self._settings = settings
        self._database = database
        self._store = store
        self._sender = sender
        self._device_ids = tuple(device_ids)
        self._children = children
        self._random = Random()  # noqa: S311 - jitter
        self._work_root = settings.home / "work"
        self._draining = threading.Event()
        self._handing_back = threading.Event()
        self._leases: set[Lease] = set()
        self._lock = threading.Lock()

    def take_over(self) -> int:
        """Hand back what a predecessor left running on our devices, and clear its folders; returns how many attempts.

        Only for one who holds the devices' locks.
        """
        for device_id in self._device_ids:
            shutil.rmtree(self._work_root / device_id, ignore_errors=True)
            self._database.transact(lambda c, d=device_id: devices.note_loaded(c, d, ()))  # type: ignore[misc]
        error = ErrorInfo(
            code="worker_lost",
            blame=Blame.HOST,
            message="the worker of this attempt ended without an answer; its work is redone",
            retry=True,
        )
        with self._database.read() as connection:
            left = job_queries.running_on(connection, self._device_ids)
            records = {job.job_id: job for job in job_queries.get_many(connection, [item[0] for item in left])}
        for job_id, attempt, beats, _losses in left:
            job = records[job_id]
            decision = decide(
                error, failures=job.failures, losses=job.losses, max_attempts=job.max_attempts, random=self._random
            )
            log.warning("predecessor_lost", job_id=job_id, attempt=attempt)
            self._database.transact(
                lambda c, j=job_id, n=attempt, b=beats, d=decision: jobs.lose(c, j, n, b, error, d)  # type: ignore[misc]
            )
        return len(left)

    def drain(self) -> None:
        """Take nothing new; what runs has `drain_seconds` to finish and is then handed back. Returns at once."""
        if self._draining.is_set():
            return
        self._draining.set()
        timer = threading.Timer(self._settings.timing.drain_seconds, self._hand_back)
        timer.daemon = True
        timer.start()

    def _hand_back(self) -> None:
        self._handing_back.set()
        with self._lock:
            leases = list(self._leases)
        for lease in leases:
            lease.end(Ended.HANDED_BACK)

    def handle(self, payload: Any) -> None:  # noqa: ANN401 - untrusted
        """Answer one doorbell. Forged, doubled, stale or unwanted ones change nothing."""
        try:
            message = parse_run_attempt(payload)
            if self._draining.is_set():
                log.info("doorbell_ignored", reason="this worker is stopping")
                return
            assignment = self._claim(message.job_id, message.attempt)
        except (InvalidRequestError, SupersededError, DatabaseError) as error:
            log.info("doorbell_ignored", reason=str(error))
            return
        with structlog.contextvars.bound_contextvars(
            job_id=assignment.job_id, attempt=assignment.attempt, device=assignment.device.device_id
        ):
            log.info("attempt_started", kind=assignment.kind.value)
            self._run(assignment)
        self._sender.wake()

    def _claim(self, job_id: str, attempt: int) -> Assignment:
        timing = self._settings.timing
        # A token of its own for every doorbell: a doubled one must not find an attempt that is "ours" already.
        owner = secrets.token_hex(16)

        def take(connection: Connection) -> Assignment:
            jobs.claim(
                connection,
                job_id,
                attempt,
                owner=owner,
                devices=self._device_ids,
                lease_seconds=timing.lost_seconds,
            )
            return job_queries.assignment(connection, job_id, attempt, owner, timing.suspect_seconds)

        return self._database.transact(take, patience_seconds=CLAIM_PATIENCE_SECONDS)

    def _run(self, assignment: Assignment) -> None:
        try:
            with (
                Workspace(self._work_root / assignment.device.device_id, assignment) as workspace,
                AttemptLog(workspace.log, self._settings.log_limit_bytes) as attempt_log,
            ):
                self._run_leased(assignment, workspace, attempt_log)
        except SupersededError as error:
            log.warning("attempt_superseded", reason=str(error))
        except DatabaseError as error:
            log.warning("attempt_abandoned", reason=str(error))  # the lease runs out
        except Exception as error:  # whatever it was, the attempt must not stay running with nobody on it
            log.exception("attempt_broken")
            self._report_broken(assignment, error)

    def _run_leased(self, assignment: Assignment, workspace: Workspace, attempt_log: AttemptLog) -> None:
        lease = Lease(self._database, self._settings, assignment, attempt_log)
        with self._lock:
            self._leases.add(lease)
        lease.start()
        if self._handing_back.is_set():
            lease.end(Ended.HANDED_BACK)
        try:
            answer = self._attempt(assignment, workspace, attempt_log, lease)
            self._conclude(assignment, answer, lease, attempt_log, workspace)
        finally:
            lease.stop()
            with self._lock:
                self._leases.discard(lease)

    def _report_broken(self, assignment: Assignment, error: Exception) -> None:
        on_host = isinstance(error, OSError)
        info = ErrorInfo(
            code="host_io" if on_host else "internal",
            blame=Blame.HOST,
            message=f"the worker could not finish the attempt: {type(error).__name__}: {error}"[:1000],
            retry=True,
        )
        try:
            self._fail(assignment, info, None)
        except NpuqError as problem:
            log.warning("attempt_abandoned", reason=str(problem))

    def _attempt(
        self, assignment: Assignment, workspace: Workspace, attempt_log: AttemptLog, lease: Lease
    ) -> StepOutcome | ErrorInfo:
        try:
            request = workspace.request(self._database, self._store)
            child = self._children(assignment)
        except NpuqError as error:
            return error.info
        except OSError as error:
            return ErrorInfo(
                code="host_io", blame=Blame.HOST, message=f"this host cannot prepare the job: {error}", retry=True
            )
        return self._work(assignment, request, child, attempt_log, lease)

    def _work(
        self, assignment: Assignment, request: StepRequest, child: Child, attempt_log: AttemptLog, lease: Lease
    ) -> StepOutcome | ErrorInfo:
        def end() -> None:
            if child.end(self._grace(lease)) is EndResult.UNKILLABLE:
                self._quarantine(assignment.device.device_id, "a process of its job survives KILL")

        if not lease.ends_with(end):
            end()
        before = child.loaded
        answer = child.run(request, attempt_log, _shown_by(lease), self._settings.job_timeout_seconds)
        lease.work_is_over()
        if request.device is None:
            child.end(HAND_BACK_GRACE_SECONDS)
        elif child.loaded != before:
            self._note_loaded(assignment.device.device_id, child.loaded)
        return answer

    def _note_loaded(self, device_id: str, loaded: Sequence[str]) -> None:
        """Tell the scheduler what the chip keeps loaded; a hint, so that a database that is away costs nothing."""
        try:
            self._database.transact(
                lambda connection: devices.note_loaded(connection, device_id, loaded), patience_seconds=1.0
            )
        except DatabaseError as error:
            log.warning("hint_not_written", reason=str(error))

    def _grace(self, lease: Lease) -> float:
        """Return how long a child may take to end: a cancel and a lost lease want the chip back now."""
        if lease.ended is Ended.HANDED_BACK:
            return HAND_BACK_GRACE_SECONDS
        return min(1.0, self._settings.timing.kill_wait_seconds / 10)

    def _quarantine(self, device_id: str, reason: str) -> None:
        log.error("device_quarantined", device=device_id, reason=reason)
        self._database.transact(
            lambda c: devices.set_state(c, device_id, DeviceState.QUARANTINED, reason, DeviceCause.UNKILLABLE)
        )

    def _conclude(
        self,
        assignment: Assignment,
        answer: StepOutcome | ErrorInfo,
        lease: Lease,
        attempt_log: AttemptLog,
        workspace: Workspace,
    ) -> None:
        if lease.ended is Ended.LOST:
            log.warning("attempt_dropped", reason="it no longer belongs to this worker")
            return
        if assignment.accompanies and _is_handed_over(answer, lease):
            self._hand_over(assignment, answer)
            return
        if isinstance(answer, StepOutcome):
            stored = trouble_of(answer) or self._store_outputs(answer)
            if not isinstance(stored, ErrorInfo):
                self._succeed(assignment, answer, stored, self._keep_log(attempt_log, workspace))
                return
            answer = stored
        self._end_unsuccessful(assignment, answer, lease, self._keep_log(attempt_log, workspace, answer))

    def _hand_over(self, assignment: Assignment, answer: StepOutcome | ErrorInfo) -> None:
        """Queue a companion again: it ends as the job that leads it does, or runs with it again."""
        told = isinstance(answer, StepOutcome)
        reason = "its measurement is with the leading job" if told else "the leading job ended before it"
        job_id, attempt, owner = assignment.job_id, assignment.attempt, assignment.owner
        self._database.transact(
            lambda c: jobs.release(c, job_id, attempt, owner=owner, reason=reason), patience_seconds=ALONE_SECONDS
        )
        log.info("attempt_handed_over", reason=reason)

    def _keep_log(
        self, attempt_log: AttemptLog, workspace: Workspace, error: ErrorInfo | None = None
    ) -> NewArtifact | None:
        """Store the log; its last words are the error, which may have come before the step, or from outside."""
        try:
            if error is not None:
                attempt_log.write(log_text(error))
            attempt_log.close()
            return self._store.put(workspace.log)
        except (ArtifactError, OSError) as problem:  # a full disk must not cost the result
            log.warning("log_not_kept", reason=str(problem))
            return None

    def _store_outputs(self, outcome: StepOutcome) -> dict[str, list[NewArtifact]] | ErrorInfo:
        try:
            return {role: [self._store.put(path) for path in paths] for role, paths in outcome.outputs.items()}
        except ArtifactError as error:
            return error.info
        except OSError as error:
            return ErrorInfo(code="host_io", blame=Blame.HOST, message=f"an output is unreadable: {error}", retry=True)

    def _succeed(
        self,
        assignment: Assignment,
        outcome: StepOutcome,
        stored: Mapping[str, Sequence[NewArtifact]],
        kept_log: NewArtifact | None,
    ) -> None:
        facts = facts_of(assignment, outcome)
        made = [artifact for artifacts in stored.values() for artifact in artifacts]
        completion = Completion(
            outputs={role: [artifact.digest for artifact in artifacts] for role, artifacts in stored.items()},
            facts=facts,
            artifacts=made + ([kept_log] if kept_log else []),
            result=result_of(assignment, outcome, facts),
            log_digest=kept_log.digest if kept_log else None,
        )
        self._database.transact(
            lambda c: jobs.succeed(
                c, assignment.job_id, assignment.attempt, owner=assignment.owner, completion=completion
            ),
            patience_seconds=ALONE_SECONDS,
        )
        log.info("attempt_succeeded")

    def _end_unsuccessful(
        self, assignment: Assignment, error: ErrorInfo, lease: Lease, kept_log: NewArtifact | None
    ) -> None:
        job_id, attempt, owner = assignment.job_id, assignment.attempt, assignment.owner
        match lease.ended:
            case Ended.CANCELLED:
                self._database.transact(
                    lambda c: jobs.finish_cancel(c, job_id, attempt, owner=owner, log=kept_log),
                    patience_seconds=ALONE_SECONDS,
                )
            case Ended.HANDED_BACK:
                self._database.transact(
                    lambda c: jobs.release(c, job_id, attempt, owner=owner, reason=_HANDED_BACK),
                    patience_seconds=ALONE_SECONDS,
                )
            case _:
                self._fail(assignment, error, kept_log)
        log.info("attempt_ended", outcome=(lease.ended or error.code), blame=error.blame.value)

    def _fail(self, assignment: Assignment, error: ErrorInfo, kept_log: NewArtifact | None) -> None:
        """End the attempt with its error, and judge the chip in the same transaction."""
        settled = convict(error, assignment.previous_error)
        decision = decide(
            settled,
            failures=assignment.failures,
            losses=assignment.losses,
            max_attempts=assignment.max_attempts,
            random=self._random,
        )

        def write(connection: Connection) -> None:
            jobs.fail(
                connection,
                assignment.job_id,
                assignment.attempt,
                owner=assignment.owner,
                error=settled,
                decision=decision,
                log=kept_log,
            )
            note_error(connection, assignment.device, settled)

        self._database.transact(write, patience_seconds=ALONE_SECONDS)


def _is_handed_over(answer: StepOutcome | ErrorInfo, lease: Lease) -> bool:
    """Tell whether a companion leaves its end to the leading job; whatever else has crossed its measurement."""
    return isinstance(answer, StepOutcome) or (lease.ended is None and answer.code == LEAD_GONE)


def _shown_by(lease: Lease) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        lease.show({"done": progress.done, "total": progress.total, "unit": progress.unit})

    return show
