"""A store that lost what succeeded jobs made: a retry makes it again, on both databases."""

from db import job_queries, jobs, lost_outputs, runs, scheduling_queries
from npuq.errors import ArtifactError, Blame, ErrorInfo
from npuq.retry import Decision
from npuq.states import JobKind, JobState, RunState
from tests.services.world import CHIP, OWNER, Placed, World, completion

LOST = ErrorInfo(code=ArtifactError.code, blame=Blame.FLEET, message="artifact 000 is not in the store", retry=False)
HELD = Decision(state=JobState.HELD, failures=0, losses=0)


def _finish(world: World, job: Placed, role: str, digest: str) -> None:
    running = world.bring(job, JobState.RUNNING)
    outputs = completion(outputs={role: [digest]})
    world.transact(jobs.succeed, running.job_id, running.attempt, owner=OWNER, completion=outputs)


def test_only_who_is_not_queued_yet_takes_what_is_made_again(world: World) -> None:
    """What is queued would be run without its input; it finds the loss itself. A twin stays on its model's device."""
    convert = world.new_job(JobKind.CONVERT, pinned_device=CHIP)
    held, queued, stale = (world.new_job(parents={"om": (convert.label,)}) for _ in range(3))
    run_id = world.plan(convert, held, queued, stale)
    made, first, second, third = (Placed(job_id=job.job_id, run_id=run_id) for job in (convert, held, queued, stale))
    _finish(world, made, "om", "c" * 64)
    running = world.bring(first, JobState.RUNNING)
    world.transact(jobs.fail, running.job_id, running.attempt, owner=OWNER, error=LOST, decision=HELD)
    world.bring(second, JobState.QUEUED)
    lost = world.read(lost_outputs.find, [world.record(first)], lambda _digest: False)
    world.transact(lost_outputs.make_again, run_id, lost)
    (_, twin) = world.read(job_queries.find, run_id=run_id, kind=JobKind.CONVERT)
    assert (twin.state, twin.pinned_device) == (JobState.WAITING, CHIP)
    assert world.read(job_queries.inputs_of, world.record(second)) == {"om": ("c" * 64,)}
    # A scheduler that found the third one ready before the retry comes too late.
    assert not world.transact(jobs.enqueue, third.job_id, content_key="e" * 64, toolchain=None)
    assert world.state(third) is JobState.WAITING


def test_a_retry_makes_again_what_the_store_has_lost(world: World) -> None:
    """Twins redo the chain; the held job takes theirs, and the succeeded ones stay in the history as they are."""
    export = world.new_job(JobKind.EXPORT, inputs={"weights": ("a" * 64,)})
    convert = world.new_job(JobKind.CONVERT, parents={"onnx": (export.label,)})
    infer = world.new_job(parents={"om": (convert.label,)})
    run_id = world.plan(export, convert, infer)
    placed = {job.kind: Placed(job_id=job.job_id, run_id=run_id) for job in (export, convert, infer)}
    _finish(world, placed[JobKind.EXPORT], "onnx", "b" * 64)
    _finish(world, placed[JobKind.CONVERT], "om", "c" * 64)
    held = world.bring(placed[JobKind.INFER], JobState.RUNNING)
    world.transact(jobs.fail, held.job_id, held.attempt, owner=OWNER, error=LOST, decision=HELD)
    world.transact(runs.settle)

    uploads = world.read(lost_outputs.find, [world.record(held)], lambda _digest: False)
    assert uploads.uploaded == [("weights", "a" * 64)]
    lost = world.read(lost_outputs.find, [world.record(held)], {"a" * 64}.__contains__)
    assert not lost.uploaded

    def retry() -> list[str]:
        labels: list[str] = world.transact(lost_outputs.make_again, run_id, lost)
        world.transact(jobs.retry, held.job_id)
        return labels

    assert retry() == [f"{convert.label} (made again 1)", f"{export.label} (made again 1)"]
    assert retry() == [], "an answer that was lost on the way changes nothing"
    assert world.run_state(run_id) is RunState.ACTIVE
    assert {world.state(placed[kind]) for kind in (JobKind.EXPORT, JobKind.CONVERT)} == {JobState.SUCCEEDED}
    for role, digest in (("onnx", "d" * 64), ("om", "e" * 64)):
        (ready,) = world.read(scheduling_queries.ready)
        _finish(world, Placed(job_id=ready.job_id, run_id=run_id), role, digest)
    (ready,) = world.read(scheduling_queries.ready)
    assert ready.job_id == held.job_id
    assert world.read(job_queries.inputs_of, ready) == {"om": ("e" * 64,)}
