"""Whether there is anything for the scheduler to do: each kind of work is seen, and nothing else."""

import pytest

from db import open_work
from db.open_work import OpenWork
from npuq.states import JobState
from tests.services.world import World

NOTHING = OpenWork(submitted_runs=False, settled_runs=False, waiting_jobs=False, queued_jobs=False)


def test_an_idle_fleet_has_no_work(world: World) -> None:
    """Nor has one whose jobs are all under way: those are looked after anyway."""
    assert world.read(open_work.look) == NOTHING
    world.job(JobState.DISPATCHED)
    world.job(JobState.RUNNING, device_id="h1.npu1.0")
    found = world.read(open_work.look)
    assert found == NOTHING
    assert not found.any


def test_a_run_that_is_not_planned_is_work(world: World) -> None:
    """And is none of the kinds that come later."""
    world.run()
    assert world.read(open_work.look) == OpenWork(
        submitted_runs=True, settled_runs=False, waiting_jobs=False, queued_jobs=False
    )


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.QUEUED])
def test_a_job_that_waits_is_work(world: World, state: JobState) -> None:
    """For its inputs, or for a device."""
    world.job(state)
    found = world.read(open_work.look)
    assert found == OpenWork(
        submitted_runs=False,
        settled_runs=False,
        waiting_jobs=state is JobState.WAITING,
        queued_jobs=state is JobState.QUEUED,
    )
    assert found.any
    assert found.unfinished_jobs


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_a_run_whose_jobs_are_final_is_to_be_ended(world: World, state: JobState) -> None:
    """However they ended."""
    world.job(state)
    assert world.read(open_work.look) == OpenWork(
        submitted_runs=False, settled_runs=True, waiting_jobs=False, queued_jobs=False
    )
