"""The scheduler's moves: what they do, what they refuse, and what happens when they are made a second time."""

from threading import Thread
from typing import Any

import pytest

from db import job_queries, jobs, logs, results, runs, scheduling_queries
from npuq.errors import SupersededError
from npuq.retry import Decision
from npuq.states import AttemptState, JobKind, JobState, RunState
from tests.services.waiting import wait_until
from tests.services.world import (
    CHIP,
    HOST_ERROR,
    INPUT_ERROR,
    LEASE_SECONDS,
    OTHER_CHIP,
    OWNER,
    Placed,
    World,
    completion,
    new_result,
)

AGAIN = Decision(state=JobState.QUEUED, failures=1, losses=0)


def test_a_planned_graph_keeps_its_order_and_its_edges(world: World) -> None:
    """Jobs are numbered as planned, inputs arrive in the order in which the plan lists them."""
    shards = [world.new_job(label=f"infer {number}/2") for number in (2, 1)]
    scoring = world.new_job(JobKind.EVALUATE, parents={"predictions": ("infer 1/2", "infer 2/2")})
    run_id = world.plan(*shards, scoring)
    found = world.read(job_queries.find, run_id=run_id)
    assert [job.label for job in found] == ["infer 2/2", "infer 1/2", scoring.label]
    assert [(job.ordinal, job.state) for job in found] == [(n, JobState.WAITING) for n in range(3)]
    assert all(job.created_at.tzinfo is not None for job in found)
    parents = world.read(job_queries.parents, scoring.job_id)
    assert [(role, job.label) for role, job in parents] == [("predictions", "infer 1/2"), ("predictions", "infer 2/2")]


def test_a_run_is_planned_once(world: World) -> None:
    """A second plan of the same run, from another scheduler, changes nothing."""
    run_id = world.plan(world.new_job())
    assert not world.transact(runs.plan, run_id, [world.new_job()])
    assert len(world.read(job_queries.find, run_id=run_id)) == 1


def test_a_job_is_ready_when_all_its_inputs_succeeded(world: World) -> None:
    """Readiness is computed from the inputs, one missing is enough to wait."""
    first, second = world.new_job(JobKind.CONVERT), world.new_job(JobKind.CONVERT)
    child = world.new_job(parents={"om": (first.label, second.label)})
    run_id = world.plan(first, second, child)
    ready = {job.job_id for job in world.read(scheduling_queries.ready)}
    assert ready == {first.job_id, second.job_id}
    world.bring(Placed(job_id=first.job_id, run_id=run_id), JobState.SUCCEEDED)
    assert child.job_id not in {job.job_id for job in world.read(scheduling_queries.ready)}
    world.bring(Placed(job_id=second.job_id, run_id=run_id), JobState.SUCCEEDED)
    assert [job.job_id for job in world.read(scheduling_queries.ready)] == [child.job_id]
    inputs = world.read(job_queries.inputs_of, world.record(child.job_id))
    assert inputs == {"om": ("0" * 64, "0" * 64)}


def test_enqueue_moves_a_waiting_job_once(world: World) -> None:
    """The key and the toolchain are kept; a second call says that there was nothing to do."""
    job = world.job()
    assert world.transact(jobs.enqueue, job.job_id, content_key="k" * 64, toolchain="cann-8")
    record = world.record(job)
    assert (record.state, record.content_key, record.toolchain) == (JobState.QUEUED, "k" * 64, "cann-8")
    assert record.queued_at is not None
    assert not world.transact(jobs.enqueue, job.job_id, content_key="z" * 64, toolchain=None)
    assert world.record(job).content_key == "k" * 64


def test_reuse_takes_outputs_and_provenance_of_a_succeeded_twin(world: World) -> None:
    """The reused job has no attempt of its own, names its twin, and shows the twin's result under its run."""
    twin = world.job(JobState.SUCCEEDED, JobKind.BENCHMARK, result=new_result())
    job = world.job(kind=JobKind.BENCHMARK)
    assert world.transact(jobs.reuse, job.job_id, content_key="k" * 64, twin_id=twin.job_id)
    record = world.record(job)
    assert (record.state, record.reused_from, record.attempt) == (JobState.SUCCEEDED, twin.job_id, 0)
    assert record.outputs == world.record(twin).outputs
    assert [found.job_id for found in world.read(results.find, run_id=job.run_id)] == [twin.job_id]
    assert not world.transact(jobs.reuse, job.job_id, content_key="k" * 64, twin_id=twin.job_id)


def test_an_unfinished_twin_is_not_reused(world: World) -> None:
    """Outputs that are not committed are nobody's."""
    twin, job = world.job(JobState.RUNNING), world.job()
    assert not world.transact(jobs.reuse, job.job_id, content_key="k" * 64, twin_id=twin.job_id)
    assert world.state(job) is JobState.WAITING


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.QUEUED])
def test_give_up_fails_what_nobody_runs(world: World, state: JobState) -> None:
    """A job that cannot be prepared fails with the reason; a second call changes nothing."""
    job = world.job(state)
    assert world.transact(jobs.give_up, job.job_id, INPUT_ERROR)
    error = world.record(job).error
    assert error is not None
    assert error.message == INPUT_ERROR.message
    assert not world.transact(jobs.give_up, job.job_id, INPUT_ERROR)


def test_give_up_leaves_a_running_job_alone(world: World) -> None:
    """What a worker holds is the worker's to end."""
    job = world.job(JobState.RUNNING)
    assert not world.transact(jobs.give_up, job.job_id, INPUT_ERROR)
    assert world.state(job) is JobState.RUNNING


@pytest.mark.parametrize("end", [JobState.FAILED, JobState.CANCELLED, JobState.HELD])
def test_children_of_a_job_that_will_not_come_are_skipped_one_level_at_a_time(world: World, end: JobState) -> None:
    """Skipping goes down the graph until nothing is doomed, and says because of whom."""
    parent = world.new_job(JobKind.CONVERT)
    child = world.new_job(parents={"om": (parent.label,)})
    grandchild = world.new_job(JobKind.EVALUATE, parents={"predictions": (child.label,)})
    run_id = world.plan(parent, child, grandchild)
    world.bring(Placed(job_id=parent.job_id, run_id=run_id), end)
    rounds = 0
    while world.read(scheduling_queries.any_doomed):
        rounds += 1
        assert world.transact(jobs.skip_doomed) == 1
    assert rounds == 2
    assert world.record(child.job_id).reason == f"{parent.label} is {end.value}"
    assert world.state(grandchild.job_id) is JobState.SKIPPED
    assert world.transact(jobs.skip_doomed) == 0
    assert world.transact(runs.settle) == [run_id]
    expected = RunState.CANCELLED if end is JobState.CANCELLED else RunState.FAILED
    assert world.run_state(run_id) is expected


def test_two_schedulers_that_skip_at_once_skip_once(world: World) -> None:
    """A job that somebody else moved meanwhile is no error."""
    parent = world.new_job(JobKind.CONVERT)
    child = world.new_job(parents={"om": (parent.label,)})
    world.plan(parent, child)
    world.transact(jobs.request_cancel, parent.job_id)
    counts: list[int] = []
    thread = Thread(target=lambda: counts.append(world.transact(jobs.skip_doomed)))
    with world.database.write() as connection:
        counts.append(jobs.skip_doomed(connection))
        thread.start()
        if world.database.dialect == "postgresql":
            wait_until(world.somebody_waits, "the second scheduler waits for the first")
    thread.join(20)
    assert counts == [1, 0]


def test_dispatch_raises_the_fence_and_makes_the_attempt(world: World) -> None:
    """One transaction gives the job to a device; a second scheduler with the old number changes nothing."""
    job = world.job(JobState.QUEUED)
    assert world.transact(jobs.dispatch, job.job_id, 0, CHIP)
    assert not world.transact(jobs.dispatch, job.job_id, 0, OTHER_CHIP)
    record = world.record(job)
    assert (record.state, record.attempt, record.device_id) == (JobState.DISPATCHED, 1, CHIP)
    assert world.attempt_states(job) == [AttemptState.DISPATCHED]


def test_dispatch_with_a_stale_number_changes_nothing(world: World) -> None:
    """A decision over an old snapshot of a job that went and came back is dropped."""
    job = world.job(JobState.DISPATCHED)
    world.transact(jobs.withdraw, job.job_id, 1, "better place")
    assert not world.transact(jobs.dispatch, job.job_id, 0, CHIP)
    assert world.transact(jobs.dispatch, job.job_id, 1, CHIP)


def test_published_doorbells_are_counted_while_nobody_answers(world: World) -> None:
    """Each ring is noted; once claimed, nothing is counted any more."""
    job = world.job(JobState.DISPATCHED)
    world.transact(jobs.mark_published, [(job.job_id, 1)])
    world.transact(jobs.mark_published, [(job.job_id, 1)])
    world.claim(job)
    world.transact(jobs.mark_published, [(job.job_id, 1)])
    (attempt,) = world.attempts(job)
    assert attempt.publishes == 2
    assert attempt.published_at is not None


def test_withdraw_takes_back_what_nobody_claimed(world: World) -> None:
    """The job queues again and the stale message dies at the claim."""
    job = world.job(JobState.DISPATCHED)
    assert world.transact(jobs.withdraw, job.job_id, 1, "h1.npu1.0 can run it sooner")
    assert not world.transact(jobs.withdraw, job.job_id, 1, "again")
    assert world.record(job).reason == "h1.npu1.0 can run it sooner"
    with pytest.raises(SupersededError):
        world.claim(job)
    assert world.attempt_states(job) == [AttemptState.WITHDRAWN]


def test_a_claimed_attempt_is_not_withdrawn(world: World) -> None:
    """The worker was faster; the scheduler loses the race."""
    job = world.job(JobState.RUNNING)
    assert not world.transact(jobs.withdraw, job.job_id, 1, "late")
    assert world.state(job) is JobState.RUNNING


def test_lose_sends_the_job_back_and_refuses_the_late_worker(world: World) -> None:
    """Everything that the old worker still says is refused."""
    job = world.job(JobState.RUNNING)
    lost = Decision(state=JobState.QUEUED, failures=0, losses=1, avoid_device=True)
    assert world.transact(jobs.lose, job.job_id, 1, 1, HOST_ERROR, lost)
    assert not world.transact(jobs.lose, job.job_id, 1, 1, HOST_ERROR, lost)
    record = world.record(job)
    assert (record.state, record.losses, record.avoid_devices) == (JobState.QUEUED, 1, (CHIP,))
    for late in _endings(job):
        with pytest.raises(SupersededError):
            world.transact(*late[:3], **late[3])
    assert world.attempt_states(job) == [AttemptState.LOST]


def _endings(job: Placed) -> list[tuple[Any, str, int, dict[str, Any]]]:
    number = (job.job_id, job.attempt)
    return [
        (jobs.beat, *number, {"owner": job.owner, "lease_seconds": LEASE_SECONDS}),
        (jobs.succeed, *number, {"owner": job.owner, "completion": completion(result=new_result())}),
        (jobs.fail, *number, {"owner": job.owner, "error": INPUT_ERROR, "decision": AGAIN}),
        (jobs.finish_cancel, *number, {"owner": job.owner}),
        (jobs.release, *number, {"owner": job.owner, "reason": "stopping"}),
        (logs.append, *number, {"owner": job.owner, "text": "late\n"}),
    ]


def test_one_more_beat_saves_an_attempt(world: World) -> None:
    """The counter that the scheduler saw standing still must still stand."""
    job = world.job(JobState.RUNNING)
    world.transact(jobs.beat, job.job_id, 1, owner=OWNER, lease_seconds=LEASE_SECONDS)
    assert not world.transact(jobs.lose, job.job_id, 1, 1, HOST_ERROR, AGAIN)
    assert world.state(job) is JobState.RUNNING


def test_a_lost_attempt_of_a_cancelled_job_is_not_tried_again(world: World) -> None:
    """The person's word outlives the worker."""
    job = world.job(JobState.RUNNING)
    assert world.transact(jobs.request_cancel, job.job_id) is JobState.RUNNING
    assert world.transact(jobs.lose, job.job_id, 1, 1, HOST_ERROR, AGAIN)
    assert world.state(job) is JobState.CANCELLED
