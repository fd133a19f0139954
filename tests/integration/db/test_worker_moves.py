"""The worker's moves: what they do, what they refuse, and what happens when they are made a second time."""

from threading import Thread

import pytest
from sqlalchemy import select

from db import devices, jobs, logs, results, scheduling_queries
from db.tables import Artifact
from npuq.errors import Blame, ErrorInfo, SupersededError
from npuq.retry import Decision
from npuq.states import AttemptState, DeviceState, JobKind, JobState
from tests.services.waiting import wait_until
from tests.services.world import (
    CHIP,
    HOST,
    HOST_ERROR,
    LEASE_SECONDS,
    OTHER_CHIP,
    OWNER,
    World,
    completion,
    new_result,
)

THIEF = "b" * 32
AGAIN = Decision(state=JobState.QUEUED, failures=1, losses=0)


def test_a_claim_is_answered_with_the_device(world: World) -> None:
    """The same worker asking again, because the answer was lost, hears the same."""
    job = world.job(JobState.DISPATCHED)
    claim = {"owner": OWNER, "devices": [OTHER_CHIP, CHIP], "lease_seconds": LEASE_SECONDS}
    assert world.transact(jobs.claim, job.job_id, 1, **claim) == CHIP
    assert world.transact(jobs.claim, job.job_id, 1, **claim) == CHIP
    assert world.record(job).started_at is not None


def test_claims_that_are_refused(world: World) -> None:
    """A second owner, another device, an unknown attempt or job, and a busy device are all turned away."""
    running, waiting = world.job(JobState.RUNNING), world.job(JobState.DISPATCHED)
    claims = [
        (running.job_id, 1, THIEF, [CHIP]),
        (waiting.job_id, 1, THIEF, [OTHER_CHIP]),
        (waiting.job_id, 2, THIEF, [CHIP]),
        ("0" * 32, 1, THIEF, [CHIP]),
        (waiting.job_id, 1, THIEF, [CHIP]),  # its device is running the other job
    ]
    for job_id, number, owner, own in claims:
        with pytest.raises(SupersededError):
            world.transact(jobs.claim, job_id, number, owner=owner, devices=own, lease_seconds=LEASE_SECONDS)
    assert (world.state(running), world.state(waiting)) == (JobState.RUNNING, JobState.DISPATCHED)


def test_a_cancelled_job_is_not_claimed(world: World) -> None:
    """A cancel of a dispatched job is final at once; its message dies at the claim."""
    job = world.job(JobState.DISPATCHED)
    assert world.transact(jobs.request_cancel, job.job_id) is JobState.CANCELLED
    with pytest.raises(SupersededError):
        world.claim(job)
    assert world.attempt_states(job) == [AttemptState.CANCELLED]


def test_two_workers_that_claim_one_device_at_once_get_one_job(world: World) -> None:
    """Whoever waited for the other's commit hears `superseded`, not a database error."""
    first, second = world.job(JobState.DISPATCHED), world.job(JobState.DISPATCHED)
    outcomes: list[Exception] = []

    def claim_second() -> None:
        try:
            world.claim(second, THIEF)
        except Exception as error:  # noqa: BLE001 - asserted on below
            outcomes.append(error)

    thread = Thread(target=claim_second)
    with world.database.write() as connection:
        jobs.claim(connection, first.job_id, 1, owner=OWNER, devices=[CHIP], lease_seconds=LEASE_SECONDS)
        thread.start()
        if world.database.dialect == "postgresql":
            wait_until(world.somebody_waits, "the second claim waits for the first")
    thread.join(20)
    assert [type(error) for error in outcomes] == [SupersededError]


def test_a_beat_carries_progress_there_and_cancel_and_drain_back(world: World) -> None:
    """Nothing is pushed to workers: they hear at the next beat."""
    job = world.job(JobState.RUNNING)
    beat = {"owner": OWNER, "lease_seconds": LEASE_SECONDS}
    reply = world.transact(jobs.beat, job.job_id, 1, **beat, progress={"done": 3, "total": 8})
    assert (reply.cancel, reply.drain) == (False, False)
    (attempt,) = world.attempts(job)
    assert (attempt.beats, attempt.progress) == (2, {"done": 3, "total": 8})
    world.transact(jobs.request_cancel, job.job_id)
    world.transact(devices.set_state, CHIP, DeviceState.DRAINING, "maintenance")
    reply = world.transact(jobs.beat, job.job_id, 1, **beat)
    assert (reply.cancel, reply.drain) == (True, True)
    assert world.attempts(job)[0].progress == {"done": 3, "total": 8}


def test_a_beat_renews_the_lease_by_the_databases_clock(world: World) -> None:
    """An attempt whose lease is over is not lost yet; a beat brings it back."""
    job = world.claim(world.job(JobState.DISPATCHED), lease_seconds=-5.0)
    assert world.read(scheduling_queries.active)[0].lease_over
    world.transact(jobs.beat, job.job_id, 1, owner=OWNER, lease_seconds=LEASE_SECONDS)
    assert not world.read(scheduling_queries.active)[0].lease_over


def test_success_commits_outputs_artifacts_and_result_together(world: World) -> None:
    """All of it is there afterwards, once, however often the worker says so."""
    job = world.job(JobState.RUNNING, JobKind.BENCHMARK)
    done = {"owner": OWNER, "completion": completion(result=new_result(), outputs={"profile": ["1" * 64]})}
    world.transact(jobs.succeed, job.job_id, 1, **done)
    world.transact(jobs.succeed, job.job_id, 1, **done)
    record = world.record(job)
    assert (record.state, record.outputs, record.error) == (JobState.SUCCEEDED, {"profile": ["1" * 64]}, None)
    (result,) = world.read(results.find, run_id=job.run_id)
    assert (result.attempt, result.metrics, result.units) == (1, {"throughput_fps": 100.0}, {"throughput_fps": "fps"})
    with world.database.read() as connection:
        assert connection.execute(select(Artifact.digest)).scalars().all() == ["1" * 64]


def test_a_refused_success_leaves_nothing(world: World) -> None:
    """A thief's outputs, artifacts and results are rolled back."""
    job = world.job(JobState.RUNNING, JobKind.BENCHMARK)
    with pytest.raises(SupersededError):
        world.transact(jobs.succeed, job.job_id, 1, owner=THIEF, completion=completion(result=new_result()))
    assert world.read(results.find) == []
    with world.database.read() as connection:
        assert connection.execute(select(Artifact.digest)).all() == []
    assert world.state(job) is JobState.RUNNING


def test_a_failure_is_applied_as_decided(world: World) -> None:
    """Counters, the pause, the avoided device and the refused host are written with the move, once."""
    job = world.job(JobState.RUNNING)
    decision = Decision(
        state=JobState.QUEUED, delay_seconds=60.0, failures=1, losses=2, avoid_device=True, refuse_host=True
    )
    for _ in range(2):
        world.transact(jobs.fail, job.job_id, 1, owner=OWNER, error=HOST_ERROR, decision=decision)
    record = world.record(job)
    assert (record.state, record.failures, record.losses) == (JobState.QUEUED, 1, 2)
    assert (record.avoid_devices, record.refused_hosts) == ((CHIP,), (HOST,))
    assert record.reason == HOST_ERROR.message
    assert record.not_before is not None
    assert record.started_at is not None
    assert 55.0 < (record.not_before - record.started_at).total_seconds() < 90.0


def test_a_failure_after_a_cancel_is_a_cancel(world: World) -> None:
    """A job that fails while it is being cancelled is not tried again."""
    job = world.job(JobState.RUNNING)
    world.transact(jobs.request_cancel, job.job_id)
    world.transact(jobs.fail, job.job_id, 1, owner=OWNER, error=HOST_ERROR, decision=AGAIN)
    assert world.state(job) is JobState.CANCELLED


def test_text_that_a_database_cannot_hold_does_not_stop_a_failure(world: World) -> None:
    """Tools print NUL bytes, file names hold lone surrogates; the failure is written all the same."""
    job = world.job(JobState.RUNNING)
    error = ErrorInfo(
        code="atc\0", blame=Blame.INPUT, message="it said \0 of \udcff.jpg", retry=False, detail="E10\0001\n"
    )
    failed = Decision(state=JobState.FAILED, failures=1, losses=0)
    world.transact(jobs.fail, job.job_id, 1, owner=OWNER, error=error, decision=failed)
    kept = world.record(job).error
    assert kept is not None
    assert "\0" not in kept.message + kept.detail + kept.code


def test_finish_cancel_ends_a_cancelled_attempt(world: World) -> None:
    """The worker says that the processes are gone; saying it twice changes nothing."""
    job = world.job(JobState.RUNNING)
    world.transact(jobs.request_cancel, job.job_id)
    for _ in range(2):
        world.transact(jobs.finish_cancel, job.job_id, 1, owner=OWNER)
    assert (world.state(job), world.attempt_states(job)) == (JobState.CANCELLED, [AttemptState.CANCELLED])


@pytest.mark.parametrize("cancelled", [False, True])
def test_release_burns_no_budget(world: World, *, cancelled: bool) -> None:
    """A job handed back queues again unharmed, unless a person cancelled it meanwhile."""
    job = world.job(JobState.RUNNING)
    if cancelled:
        world.transact(jobs.request_cancel, job.job_id)
    for _ in range(2):
        world.transact(jobs.release, job.job_id, 1, owner=OWNER, reason="its worker was stopped")
    record = world.record(job)
    assert record.state is (JobState.CANCELLED if cancelled else JobState.QUEUED)
    assert (record.failures, record.losses) == (0, 0)
    assert world.attempt_states(job) == [AttemptState.RELEASED]


def test_the_log_of_an_ended_attempt_leaves_the_database(world: World) -> None:
    """Live pieces are readable in order while it runs; afterwards the log is an artifact."""
    job = world.job(JobState.RUNNING)
    for piece in ("one\n", "two\n"):
        world.transact(logs.append, job.job_id, 1, owner=OWNER, text=piece)
    assert world.read(logs.read, job.job_id, 1) == [(0, "one\n"), (1, "two\n")]
    assert world.read(logs.read, job.job_id, 1, 0) == [(1, "two\n")]
    world.transact(jobs.release, job.job_id, 1, owner=OWNER, reason="stopping")
    assert world.read(logs.read, job.job_id, 1) == []
