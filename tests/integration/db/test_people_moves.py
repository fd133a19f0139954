"""People's moves, and the log that triggers write of every move."""

import pytest
from sqlalchemy import select

from db import jobs, runs, scheduling_queries
from db.tables import JobEvent
from npuq.errors import SupersededError
from npuq.states import JobKind, JobState, RunState
from tests.services.world import (
    OWNER,
    Placed,
    World,
)


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.QUEUED, JobState.DISPATCHED])
def test_what_nobody_runs_is_cancelled_at_once(world: World, state: JobState) -> None:
    """Cancelling is idempotent, and leaves no active attempt."""
    job = world.job(state)
    assert world.transact(jobs.request_cancel, job.job_id) is JobState.CANCELLED
    assert world.transact(jobs.request_cancel, job.job_id) is JobState.CANCELLED
    assert world.read(scheduling_queries.active) == []


def test_a_final_job_is_not_cancelled(world: World) -> None:
    """The answer is the state that it has."""
    job = world.job(JobState.SUCCEEDED)
    assert world.transact(jobs.request_cancel, job.job_id) is JobState.SUCCEEDED


def test_cancelling_a_run_cancels_its_open_jobs(world: World) -> None:
    """Running jobs are asked, the others end at once; an unplanned run ends without jobs."""
    first, second = world.new_job(), world.new_job()
    run_id = world.plan(first, second)
    world.bring(Placed(job_id=first.job_id, run_id=run_id), JobState.RUNNING)
    assert world.transact(runs.cancel, run_id) == {JobState.RUNNING: 1, JobState.CANCELLED: 1}
    assert world.run_record(run_id).cancel_requested
    assert world.transact(runs.settle) == []
    unplanned = world.run()
    assert world.transact(runs.cancel, unplanned) == {}
    assert world.run_state(unplanned) is RunState.CANCELLED
    assert not world.transact(runs.plan, unplanned, [world.new_job()])


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED, JobState.HELD])
def test_retry_starts_over_with_a_full_budget(world: World, state: JobState) -> None:
    """The fence does not fall back: the next attempt gets the next number."""
    job = world.job(state)
    before = world.record(job).attempt
    assert world.transact(jobs.retry, job.job_id) == [job.job_id]
    record = world.record(job)
    assert (record.state, record.failures, record.losses, record.error) == (JobState.WAITING, 0, 0, None)
    assert (record.attempt, record.cancel_requested, record.finished_at) == (before, False, None)
    assert world.transact(jobs.retry, job.job_id) == []


def test_retry_takes_the_skipped_along_and_opens_the_run(world: World) -> None:
    """What was skipped because of a job waits again with it; the run is active again."""
    parent = world.new_job(JobKind.CONVERT)
    child = world.new_job(parents={"om": (parent.label,)})
    run_id = world.plan(parent, child)
    world.bring(Placed(job_id=parent.job_id, run_id=run_id), JobState.FAILED)
    world.transact(jobs.skip_doomed)
    world.transact(runs.settle)
    assert set(world.transact(runs.retry, run_id)) == {parent.job_id, child.job_id}
    assert world.run_state(run_id) is RunState.ACTIVE
    assert world.run_record(run_id).finished_at is None


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.SUCCEEDED])
def test_retry_leaves_the_others_alone(world: World, state: JobState) -> None:
    """Only what ended without success is tried again."""
    job = world.job(state)
    assert world.transact(jobs.retry, job.job_id) == []
    assert world.state(job) is state


def test_the_event_log_replays_to_the_same_state(world: World) -> None:
    """Triggers write every move: each event begins where the one before ended, the last is the state of the job."""
    placed = [world.job(state, device_id=None) for state in JobState if state is not JobState.RUNNING]
    again = world.job(JobState.RUNNING)
    world.transact(jobs.release, again.job_id, 1, owner=OWNER, reason="stopping")
    world.claim(world.dispatch(again))
    for job in [*placed, again]:
        with world.database.read() as connection:
            events = connection.execute(
                select(JobEvent.__table__).where(JobEvent.job_id == job.job_id).order_by(JobEvent.id)
            ).all()
        assert [event.from_state for event in events] == [None, *(event.to_state for event in events[:-1])]
        assert (events[-1].to_state, events[-1].attempt) == (world.state(job).value, world.record(job).attempt)
        assert [event.at for event in events] == sorted(event.at for event in events)


def test_a_job_that_is_gone_is_superseded(world: World) -> None:
    """Messages may name jobs that never were."""
    with pytest.raises(SupersededError, match="not in the database"):
        world.transact(jobs.request_cancel, "0" * 32)
