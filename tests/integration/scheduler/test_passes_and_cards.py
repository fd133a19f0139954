"""Two passes over the chips, passes pinned to devices, and measurements of whole cards, through `Loop.run_once`."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from sqlalchemy import Connection, text

from db import devices, job_queries, jobs, results, scheduling_queries
from db.engine import Database
from db.records import JobRecord
from npuq.config import Settings
from npuq.errors import Blame, DeviceBusyError, ErrorInfo, InvalidRequestError
from npuq.specs import SourceKind
from npuq.states import AttemptState, DeviceCause, DeviceState, JobKind, JobState, RunState
from scheduler import dispatch
from scheduler.placement import Placement
from tasks import registry
from tasks.protocols import Recipe
from tests.services.fleet import Fleet
from tests.services.world import CHIP, OTHER_CHIP, Placed, chip, run_spec, slot

GOAL = {"goals": (JobKind.EVALUATE,)}
MEASURE = {"goals": (JobKind.BENCHMARK,), "scope": "card"}
DOWN = ErrorInfo(code="host_down", blame=Blame.HOST, message="the host went away", retry=True)
BUSY = DeviceBusyError("a stranger is on the chip").info
WRONG = ErrorInfo(code="bad_input", blame=Blame.INPUT, message="the model does not fit", retry=False)


@pytest.fixture
def two_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every run be of a recipe with two passes."""
    real = registry.get("mobilenet_v1")
    known = SimpleNamespace(
        id=real.id,
        version=1,
        dataset_format="imagenet",
        passes=("original", "flipped"),
        preprocessing_version=1,
        dynamic_batch=True,
        inputs=real.inputs,
    )
    monkeypatch.setattr(registry, "get", lambda *_: cast("Recipe", known))


@pytest.fixture
def fleet(sqlite_database: Database, settings: Settings, tmp_path: Path) -> Fleet:
    """Return a scheduler and a host with two chips on two cards."""
    return Fleet(sqlite_database, settings, tmp_path)


@pytest.fixture
def any_fleet(database: Database, settings: Settings, tmp_path: Path) -> Fleet:
    """Return the same, once on each database."""
    return Fleet(database, settings, tmp_path)


def until_chips(fleet: Fleet) -> list[Placed]:
    """Play the host's jobs; returns what then runs on chips."""
    for _ in range(5):
        fleet.tick()
        claimed = fleet.claim_all()
        if any(_on_chip(fleet.world.record(job)) for job in claimed):
            return claimed
        for job in claimed:
            fleet.finish(job)
    raise AssertionError("nothing came to a chip")


def _on_chip(job: JobRecord) -> bool:
    return job.kind in {JobKind.INFER, JobKind.BENCHMARK}


@pytest.mark.usefixtures("two_passes")
def test_two_chips_work_on_two_passes_at_once(fleet: Fleet) -> None:
    """From the first shards on; scoring waits for all of both."""
    run_id = fleet.world.run(**GOAL)
    running = until_chips(fleet)
    assert {fleet.world.record(job).params["pass"] for job in running} == {"original", "flipped"}
    assert {job.device_id for job in running} == {CHIP, OTHER_CHIP}
    while running:
        for job in running:
            fleet.finish(job)
        fleet.tick()
        running = fleet.claim_all()
        states = fleet.states(run_id)
        shards = [state for label, state in states.items() if label.startswith("infer")]
        assert (states["evaluate bs1 fp16"] is JobState.WAITING) == (set(shards) != {JobState.SUCCEEDED})
    assert fleet.world.run_state(run_id) is RunState.SUCCEEDED


@pytest.mark.usefixtures("two_passes")
def test_pinned_passes_stay_on_their_devices_and_are_the_same_work(fleet: Fleet) -> None:
    """The guide's own layout; an equal run without pins, or with others, runs nothing."""
    run_id = fleet.world.run(pins={"original": OTHER_CHIP, "flipped": CHIP}, **GOAL)
    fleet.work_off()
    shards = [job for job in fleet.world.read(job_queries.find, run_id=run_id) if job.kind is JobKind.INFER]
    assert {(job.params["pass"], job.device_id) for job in shards} == {("original", OTHER_CHIP), ("flipped", CHIP)}
    assert fleet.world.run_state(run_id) is RunState.SUCCEEDED
    fleet.world.run(**GOAL)
    fleet.world.run(pins={"original": CHIP}, **GOAL)
    assert fleet.work_off() == []


@pytest.mark.usefixtures("two_passes")
def test_a_pass_waits_for_its_sick_device_and_holds_up_nobody(fleet: Fleet) -> None:
    """The other pass goes on, equal work of others is done elsewhere, and the pinned jobs run when it is back."""
    fleet.world.transact(devices.set_state, CHIP, DeviceState.QUARANTINED, "Alarm", DeviceCause.ALARM)
    pinned = fleet.world.run(pins={"original": CHIP}, **GOAL)
    fleet.work_off()
    waiting = [job for job in fleet.world.read(job_queries.find, run_id=pinned) if job.state is JobState.QUEUED]
    assert {(job.params["pass"], job.pinned_device) for job in waiting} == {("original", CHIP)}
    assert fleet.states(pinned)["infer bs1 fp16 flipped 1/2"] is JobState.SUCCEEDED
    free = fleet.world.run(**GOAL)
    fleet.work_off()
    assert fleet.world.run_state(free) is RunState.SUCCEEDED
    fleet.world.transact(devices.set_state, CHIP, DeviceState.ONLINE, "", DeviceCause.PERSON)
    fleet.work_off()
    assert fleet.world.run_state(pinned) is RunState.SUCCEEDED


def card(fleet: Fleet, *, fresh: bool = False) -> str:
    """Make the host's two chips one card, and submit its measurement; returns the run."""
    fleet.world.register([chip(0), chip(1, npu_id=0, chip_id=1), slot(0)])
    model = run_spec().source.model_copy(update={"kind": SourceKind.OM})
    return fleet.world.run(source=model, dataset=None, fresh=fresh, **MEASURE)


def together(fleet: Fleet) -> tuple[Placed, Placed]:
    """Work off what runs alone; returns the claimed jobs of the card, the leading one first."""
    for _ in range(5):
        fleet.tick()
        claimed = fleet.claim_all()
        pair = sorted((job for job in claimed if fleet.world.record(job).lead_id), key=lambda j: not _leads(fleet, j))
        for job in claimed:
            if job not in pair:
                fleet.finish(job)
        if pair:
            one, two = pair
            return one, two
    raise AssertionError("the card was not measured")


def _leads(fleet: Fleet, job: Placed) -> bool:
    return fleet.world.record(job).leads


def hand_over(fleet: Fleet, job: Placed) -> None:
    """Let a companion give its measurement to the leading job."""
    fleet.world.transact(jobs.release, job.job_id, job.attempt, owner=job.owner, reason="with the leading job")


def test_a_cards_jobs_begin_together_and_end_as_their_leader(any_fleet: Fleet) -> None:
    """The companion is queued again until the result is committed; then both are over, with one result."""
    fleet = any_fleet
    run_id = card(fleet)
    lead, companion = together(fleet)
    assert {lead.device_id, companion.device_id} == {CHIP, OTHER_CHIP}
    hand_over(fleet, companion)
    assert fleet.tick() == 0
    assert fleet.claim_all() == []
    fleet.finish(lead)
    fleet.tick()
    assert set(fleet.states(run_id).values()) == {JobState.SUCCEEDED}
    assert fleet.world.run_state(run_id) is RunState.SUCCEEDED
    assert len(fleet.world.read(results.find, run_id=run_id)) == 2
    assert fleet.world.attempt_states(companion) == [AttemptState.RELEASED]
    again = card(fleet)
    assert fleet.work_off() == []
    assert fleet.world.run_state(again) is RunState.SUCCEEDED


def test_a_lost_leader_is_measured_again_with_its_companion(fleet: Fleet) -> None:
    """Neither runs without the other, whichever came back first; another scheduler goes on where this one was."""
    run_id = card(fleet)
    lead, companion = together(fleet)
    fleet.fail(lead, DOWN)
    fleet.tick(30.0)
    assert fleet.claim_all() == []
    hand_over(fleet, companion)
    fleet.loop.resign()
    fleet.loop = fleet.new_loop(fleet.sender)
    lead, companion = together(fleet)
    assert (lead.attempt, companion.attempt) == (2, 2)
    hand_over(fleet, companion)
    fleet.finish(lead)
    fleet.tick()
    assert fleet.world.run_state(run_id) is RunState.SUCCEEDED


def test_a_companion_that_cannot_run_fails_the_measurement_and_both_are_retried(fleet: Fleet) -> None:
    """The leading job says why; a person's retry sends both back, a cancel ends both."""
    run_id = card(fleet)
    lead, companion = together(fleet)
    fleet.fail(companion, WRONG)
    fleet.fail(lead, DOWN)
    fleet.tick()
    error = fleet.world.record(lead).error
    assert error is not None
    assert "is failed: the model does not fit" in error.message
    assert fleet.world.run_state(run_id) is RunState.FAILED
    moved = fleet.world.transact(jobs.retry, lead.job_id)
    assert sorted(moved) == sorted([lead.job_id, companion.job_id])
    lead, companion = together(fleet)
    fleet.world.transact(jobs.request_cancel, companion.job_id)
    assert all(fleet.world.record(job).cancel_requested for job in (lead, companion))
    hand_over(fleet, companion)
    with pytest.raises(InvalidRequestError, match="still being cancelled"):
        fleet.world.transact(jobs.retry, companion.job_id)
    fleet.world.transact(jobs.finish_cancel, lead.job_id, lead.attempt, owner=lead.owner)
    assert len(fleet.world.transact(jobs.retry, companion.job_id)) == 2


def test_a_retry_that_crosses_the_end_of_a_card_is_not_undone(any_fleet: Fleet) -> None:
    """The scheduler saw a companion that had failed, and a person has sent it back since."""
    fleet = any_fleet
    card(fleet)
    lead, companion = together(fleet)
    fleet.fail(companion, WRONG)
    fleet.fail(lead, DOWN)
    failed = fleet.world.record(companion).error
    assert failed is not None
    assert fleet.world.read(scheduling_queries.left_behind)[0][0].job_id == lead.job_id
    fleet.world.transact(jobs.retry, companion.job_id)
    assert not fleet.world.transact(jobs.give_up_lead, lead.job_id, companion.job_id, failed)
    assert fleet.world.state(lead) is JobState.QUEUED


def test_a_scheduler_with_an_old_picture_gives_no_second_measurement_to_a_card(any_fleet: Fleet) -> None:
    """It was stopped before it wrote, another one went on: in crossed order the two would wait for each other."""
    fleet = any_fleet
    first = card(fleet)
    second = card(fleet, fresh=True)
    lead, _companion = together(fleet)
    other = second if lead.run_id == first else first
    waiting = [job for job in fleet.world.read(job_queries.find, run_id=other) if job.lead_id is not None]
    chosen = [
        Placement(job_id=job.job_id, attempt=job.attempt, device_id=device_id)
        for job, device_id in zip(waiting, (OTHER_CHIP, CHIP), strict=True)
    ]
    for job in waiting:
        fleet.world.transact(jobs.enqueue, job.job_id, content_key=job.job_id * 2, toolchain=None)
    assert dispatch.write_together(fleet.world.database, chosen) == 0
    assert {fleet.world.state(job.job_id) for job in waiting} == {JobState.QUEUED}


def test_a_card_that_no_host_takes_as_a_whole_fails(fleet: Fleet) -> None:
    """One host has refused one of its jobs, the other host another: nobody is left, and nothing would ever run."""
    fleet.world.register([chip(0, "h2"), chip(1, "h2", npu_id=0, chip_id=1)], "h2")
    run_id = card(fleet)
    lead, companion = together(fleet)
    refused = ErrorInfo(code="no_tool", blame=Blame.HOST, message="there is no aclruntime", retry=False)
    fleet.fail(companion, refused)
    fleet.fail(lead, BUSY)
    fleet.world.transact(_be_tried_now, lead.job_id)
    lead, companion = together(fleet)
    fleet.fail(lead, refused)
    hand_over(fleet, companion)
    fleet.tick()  # gives the jobs up
    fleet.tick()  # ends the run
    assert fleet.world.run_state(run_id) is RunState.FAILED
    error = fleet.world.record(lead).error
    assert error is not None
    assert error.message == "there is no aclruntime"


def _be_tried_now(connection: Connection, job_id: str) -> None:
    connection.execute(text("UPDATE jobs SET not_before = NULL WHERE id = :job"), {"job": job_id})


def test_two_measurements_of_one_card_take_turns(fleet: Fleet) -> None:
    """Never half of each."""
    first, second = card(fleet), card(fleet, fresh=True)
    seen: Counter[str] = Counter()
    for _ in range(2):
        lead, companion = together(fleet)
        assert lead.run_id == companion.run_id
        seen[lead.run_id] += 1
        hand_over(fleet, companion)
        fleet.finish(lead)
    fleet.tick()
    assert fleet.world.run_state(first) is fleet.world.run_state(second) is RunState.SUCCEEDED
