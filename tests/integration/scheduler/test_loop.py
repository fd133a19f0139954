"""`Loop.run_once` on both databases, with doorbells that are recorded and workers that the test plays."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy import update

from db import datasets, devices, job_queries, jobs, results, runs, scheduling_queries
from db.engine import Database
from db.records import ActiveAttempt
from db.tables import Attempt, Host, Job
from db.types import db_now
from npuq.config import Settings
from npuq.errors import Blame, ErrorInfo, ToolMissingError
from npuq.specs import SourceKind
from npuq.states import AttemptState, DeviceState, JobKind, JobState, RunState
from tasks import registry
from tasks.protocols import Recipe
from tests.services.fleet import SAMPLES, Fleet, RecordingSender
from tests.services.world import CHIP, HOST, OTHER_CHIP, SLOT, Placed, chip, run_spec, slot

NO_FOLDER = ErrorInfo(code="dataset_missing", blame=Blame.HOST, message="no folder /data on this host", retry=False)


@pytest.fixture
def fleet(database: Database, settings: Settings, tmp_path: Path) -> Fleet:
    """Return a scheduler and a host with two chips and two slots, once on each database."""
    return Fleet(database, settings, tmp_path)


@pytest.fixture
def sqlite_fleet(sqlite_database: Database, settings: Settings, tmp_path: Path) -> Fleet:
    """Return the same on SQLite only."""
    return Fleet(sqlite_database, settings, tmp_path)


def test_a_run_goes_from_submitted_to_succeeded(fleet: Fleet) -> None:
    """Plan, export, convert, shards on both chips, scoring and benchmark; every job once, two results."""
    run_id = fleet.world.run()
    ran = fleet.work_off()
    assert ran[:2] == [JobKind.EXPORT, JobKind.CONVERT]
    assert ran.index(JobKind.EVALUATE) > max(n for n, kind in enumerate(ran) if kind is JobKind.INFER)
    assert fleet.world.run_state(run_id) is RunState.SUCCEEDED
    assert set(fleet.states(run_id).values()) == {JobState.SUCCEEDED}
    assert sorted(found.kind for found in fleet.world.read(results.find, run_id=run_id)) == ["accuracy", "performance"]
    assert all(
        fleet.world.attempt_states(job.job_id) == [AttemptState.SUCCEEDED]
        for job in fleet.world.read(job_queries.find, run_id=run_id)
    )


def test_an_equal_run_reuses_everything(fleet: Fleet) -> None:
    """The second run runs nothing, and its results are the first one's."""
    first = fleet.world.run()
    fleet.work_off()
    second = fleet.world.run()
    assert fleet.work_off() == []
    assert fleet.world.run_state(second) is RunState.SUCCEEDED
    assert all(job.reused_from for job in fleet.world.read(job_queries.find, run_id=second))
    found = [{item.result_id for item in fleet.world.read(results.find, run_id=run)} for run in (first, second)]
    assert found[0] == found[1]


def test_a_fresh_run_measures_anew_on_the_same_model(sqlite_fleet: Fleet) -> None:
    """`--fresh` repeats what is measured; the conversion is not a measurement."""
    sqlite_fleet.world.run()
    sqlite_fleet.work_off()
    sqlite_fleet.world.run(fresh=True)
    assert set(sqlite_fleet.work_off()) == {JobKind.INFER, JobKind.EVALUATE, JobKind.BENCHMARK}


def test_outputs_that_left_the_store_are_made_again(sqlite_fleet: Fleet) -> None:
    """A twin whose bytes are gone is no twin."""
    sqlite_fleet.world.run(goals=(JobKind.EXPORT,))
    sqlite_fleet.work_off()
    (exported,) = sqlite_fleet.world.read(job_queries.find)
    (digest,) = exported.outputs["onnx"]
    sqlite_fleet.store.fetch(digest).unlink()
    sqlite_fleet.world.run(goals=(JobKind.EXPORT,))
    assert sqlite_fleet.work_off() == [JobKind.EXPORT]


def test_equal_work_under_way_is_waited_for(sqlite_fleet: Fleet) -> None:
    """The second of two equal runs waits with a reason, then reuses; if the first fails it does the work itself."""
    first = sqlite_fleet.world.run(goals=(JobKind.EXPORT,))
    second = sqlite_fleet.world.run(goals=(JobKind.EXPORT,))
    sqlite_fleet.tick()
    (job,) = sqlite_fleet.claim_all()
    assert sqlite_fleet.states(second) == {"export": JobState.WAITING}
    (waiting,) = sqlite_fleet.world.read(job_queries.find, run_id=second)
    assert waiting.reason == f"job {job.job_id[:12]} is doing the same work"
    broken = ErrorInfo(code="checkpoint", blame=Blame.INPUT, message="wrong keys", retry=False)
    sqlite_fleet.fail(job, broken)
    assert sqlite_fleet.work_off() == [JobKind.EXPORT]
    assert sqlite_fleet.world.run_state(first) is RunState.FAILED
    assert sqlite_fleet.world.run_state(second) is RunState.SUCCEEDED


def test_a_silent_attempt_is_lost_after_two_witnesses(fleet: Fleet) -> None:
    """The lease alone loses nothing; with the beat standing still for as long, the job goes elsewhere."""
    fleet.world.run(goals=(JobKind.EXPORT,))
    fleet.tick()
    (job,) = fleet.claim_all()
    _end_lease(fleet, job)
    fleet.tick()
    assert fleet.world.state(job) is JobState.RUNNING  # this scheduler has not seen it stand still yet
    fleet.tick(fleet.settings.timing.lost_seconds + 1)
    record = fleet.world.record(job)
    assert (record.state, record.losses, record.attempt) == (JobState.DISPATCHED, 1, 2)
    assert record.device_id != job.device_id
    assert fleet.world.attempt_states(job) == [AttemptState.LOST, AttemptState.DISPATCHED]


def _end_lease(fleet: Fleet, job: Placed) -> None:
    with fleet.world.database.write() as connection:
        connection.execute(update(Attempt).where(Attempt.job_id == job.job_id).values(lease_until=db_now(-1)))


def test_an_unanswered_doorbell_rings_again_then_the_worker_is_restarted_then_the_job_moves(fleet: Fleet) -> None:
    """A lost message costs one resend; a worker that has stopped consuming is restarted by its launcher."""
    fleet.world.run(goals=(JobKind.EXPORT,))
    fleet.tick()
    first = fleet.sender.take()
    assert fleet.tick() == 0
    assert fleet.sender.take() == []  # nothing rings twice in a row
    _age_doorbells(fleet)
    fleet.tick()
    assert fleet.sender.take() == first
    assert fleet.world.transact(devices.host_beat, HOST) == []
    _age_doorbells(fleet)
    fleet.tick()
    assert fleet.world.transact(devices.host_beat, HOST) == [SLOT]
    assert fleet.world.transact(devices.host_beat, HOST) == []
    _age_doorbells(fleet)
    fleet.tick()
    (job,) = fleet.world.read(job_queries.find)
    assert fleet.world.attempt_states(job.job_id)[0] is AttemptState.WITHDRAWN


def _age_doorbells(fleet: Fleet) -> None:
    past = db_now(-2 * fleet.settings.timing.resend_seconds)
    with fleet.world.database.write() as connection:
        connection.execute(update(Attempt).where(Attempt.published_at.is_not(None)).values(published_at=past))


def test_a_broker_that_is_away_costs_nothing_but_time(sqlite_fleet: Fleet) -> None:
    """The doorbell is noted only when it was sent, so the next tick rings it."""
    sqlite_fleet.world.run(goals=(JobKind.EXPORT,))
    sqlite_fleet.sender.broken = True
    sqlite_fleet.tick()
    (attempt,) = sqlite_fleet.world.read(scheduling_queries.active)
    assert (attempt.publishes, attempt.unanswered_seconds) == (0, None)
    sqlite_fleet.sender.broken = False
    sqlite_fleet.tick()
    assert len(sqlite_fleet.claim_all()) == 1


def test_a_job_given_ahead_moves_to_a_chip_that_becomes_free(sqlite_fleet: Fleet) -> None:
    """Short jobs queue two deep on a chip; an idle chip takes them over, and the stale doorbell dies at the claim."""
    sqlite_fleet.world.run()
    sqlite_fleet.work_off()  # now the loop knows that these jobs are short
    sqlite_fleet.world.transact(devices.set_state, OTHER_CHIP, DeviceState.DRAINING, "maintenance")
    sqlite_fleet.world.run(batch_sizes=(2, 4), fresh=True)
    while not (ahead := _dispatched_behind_running(sqlite_fleet)):
        claimed = sqlite_fleet.claim_all()
        for job in claimed:
            if sqlite_fleet.world.record(job).kind is not JobKind.INFER:
                sqlite_fleet.finish(job)
        sqlite_fleet.tick()
    stale = dict(sqlite_fleet.sender.take())
    sqlite_fleet.world.transact(devices.set_state, OTHER_CHIP, DeviceState.ONLINE, "")
    sqlite_fleet.tick()
    moved = sqlite_fleet.world.record(ahead.job_id)
    assert (moved.state, moved.device_id, moved.attempt) == (JobState.DISPATCHED, OTHER_CHIP, ahead.number + 1)
    assert stale[f"npuq.device.{CHIP}"]["attempt"] == ahead.number


def _dispatched_behind_running(fleet: Fleet) -> ActiveAttempt | None:
    active = fleet.world.read(scheduling_queries.active)
    running = {item.device_id for item in active if item.state is AttemptState.RUNNING}
    behind = [item for item in active if item.state is AttemptState.DISPATCHED and item.device_id in running]
    return behind[0] if behind else None


@pytest.mark.parametrize("state", [DeviceState.DRAINING, DeviceState.QUARANTINED])
def test_a_device_that_may_not_work_gives_back_what_it_has_not_begun(sqlite_fleet: Fleet, state: DeviceState) -> None:
    """The job is placed elsewhere at once, without burning a try."""
    sqlite_fleet.world.run(goals=(JobKind.EXPORT,))
    sqlite_fleet.tick()
    sqlite_fleet.world.transact(devices.set_state, SLOT, state, "maintenance")
    sqlite_fleet.tick()
    (job,) = sqlite_fleet.world.read(job_queries.find)
    assert (job.device_id, job.losses, job.failures) == ("h1.host.1", 0, 0)


def test_a_silent_host_gets_nothing_new(sqlite_fleet: Fleet) -> None:
    """Jobs wait until the host beats again; what it had not begun is taken back."""
    sqlite_fleet.world.run(goals=(JobKind.EXPORT,))
    sqlite_fleet.tick()
    with sqlite_fleet.world.database.write() as connection:
        connection.execute(update(Host).values(heartbeat_at=db_now(-3_600)))
    sqlite_fleet.tick()
    (job,) = sqlite_fleet.world.read(job_queries.find)
    assert (job.state, job.reason) == (JobState.QUEUED, f"{SLOT} is lost")
    sqlite_fleet.world.transact(devices.host_beat, HOST)
    sqlite_fleet.tick()
    assert sqlite_fleet.world.state(job.job_id) is JobState.DISPATCHED


def test_a_job_refused_by_every_host_fails_with_the_hosts_sentence(fleet: Fleet) -> None:
    """First the other host is tried; when that refuses too, the run fails and says what the host said."""
    fleet.world.register([chip(0, "h2"), slot(0, "h2")], host="h2")
    run_id = fleet.world.run(goals=(JobKind.EXPORT, JobKind.CONVERT))
    hosts = []
    for _ in range(2):
        fleet.tick()
        (job,) = fleet.claim_all()
        hosts.append(job.device_id.split(".")[0])
        fleet.fail(job, NO_FOLDER)
    fleet.tick()  # fails the job
    fleet.tick()  # skips what needed it
    assert sorted(hosts) == ["h1", "h2"]
    exported = fleet.world.read(job_queries.find, run_id=run_id)[0]
    assert exported.state is JobState.FAILED
    assert exported.error is not None
    assert exported.error.message == NO_FOLDER.message
    assert exported.failures == 0
    assert fleet.states(run_id)["convert bs1 fp16"] is JobState.SKIPPED
    assert fleet.world.run_state(run_id) is RunState.FAILED


def test_a_cancelled_run_ends_when_its_running_job_is_gone(fleet: Fleet) -> None:
    """Nothing new is dispatched, and the late success of nobody counts."""
    run_id = fleet.world.run()
    fleet.tick()
    (job,) = fleet.claim_all()
    fleet.world.transact(runs.cancel, run_id)
    fleet.tick()
    assert fleet.world.run_state(run_id) is RunState.ACTIVE
    fleet.world.transact(jobs.finish_cancel, job.job_id, job.attempt, owner=job.owner)
    fleet.tick()
    assert fleet.world.run_state(run_id) is RunState.CANCELLED
    assert set(fleet.states(run_id).values()) == {JobState.CANCELLED}
    assert fleet.sender.take() == []


def test_a_job_that_takes_down_its_worker_is_held(sqlite_fleet: Fleet) -> None:
    """After the budget of losses the job is held; another run goes on meanwhile."""
    poison = sqlite_fleet.world.run(goals=(JobKind.EXPORT,))
    lost = ErrorInfo(code="child_lost", blame=Blame.HOST, message="it died", retry=True)
    for _ in range(4):
        sqlite_fleet.tick()
        (job,) = sqlite_fleet.claim_all()
        sqlite_fleet.fail(job, lost)
        _forget_pause(sqlite_fleet)
    sqlite_fleet.world.run(source=run_spec().source.model_copy(update={"digest": "e" * 64}))
    assert JobKind.BENCHMARK in sqlite_fleet.work_off()
    assert sqlite_fleet.states(poison) == {"export": JobState.HELD}
    assert sqlite_fleet.world.run_state(poison) is RunState.FAILED


def _forget_pause(fleet: Fleet) -> None:
    with fleet.world.database.write() as connection:
        connection.execute(update(Job).values(not_before=None))


def test_a_run_that_cannot_be_planned_fails_with_the_reason(sqlite_fleet: Fleet) -> None:
    """An unknown recipe or dataset is the submitter's to correct; other runs go on."""
    unknown = sqlite_fleet.world.run(recipe="no_such_model")
    missing = sqlite_fleet.world.run(dataset="no_such_data")
    fine = sqlite_fleet.world.run(goals=(JobKind.EXPORT,))
    sqlite_fleet.work_off()
    assert "no_such_model" in sqlite_fleet.world.run_record(unknown).reason
    assert "npuq datasets add no_such_data" in sqlite_fleet.world.run_record(missing).reason
    assert sqlite_fleet.world.run_state(unknown) is sqlite_fleet.world.run_state(missing) is RunState.FAILED
    assert sqlite_fleet.world.run_state(fine) is RunState.SUCCEEDED


def test_a_run_that_could_not_be_planned_is_planned_again_on_request(sqlite_fleet: Fleet) -> None:
    """Its dataset was registered meanwhile; a run that has jobs is not planned a second time."""
    run_id = sqlite_fleet.world.run(dataset="late")
    sqlite_fleet.work_off()
    assert sqlite_fleet.world.run_state(run_id) is RunState.FAILED
    sqlite_fleet.world.transact(
        datasets.put, name="late", format="imagenet", root="/data", digest="6" * 64, samples=SAMPLES
    )
    assert sqlite_fleet.world.transact(runs.plan_again, run_id)
    sqlite_fleet.work_off()
    assert sqlite_fleet.world.run_state(run_id) is RunState.SUCCEEDED
    assert not sqlite_fleet.world.transact(runs.plan_again, run_id)


def test_a_recipe_that_cannot_be_loaded_stops_nobody_else(sqlite_fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run that this scheduler cannot plan fails; planning goes on for the others."""
    load = registry.get

    def get(recipe_id: str, options: Mapping[str, str]) -> Recipe:
        if recipe_id == "third_party":
            raise ToolMissingError("its plug-in needs a module that is not installed")
        return load(recipe_id, options)

    monkeypatch.setattr(registry, "get", get)
    broken = sqlite_fleet.world.run(recipe="third_party")
    fine = sqlite_fleet.world.run(goals=(JobKind.EXPORT,))
    sqlite_fleet.work_off()
    assert "its plug-in needs" in sqlite_fleet.world.run_record(broken).reason
    assert sqlite_fleet.world.run_state(fine) is RunState.SUCCEEDED


def test_a_run_waits_for_a_chip_to_compile_for(sqlite_fleet: Fleet) -> None:
    """Without a chip online and without `--soc` the run stays submitted and says why, then it is planned."""
    sqlite_fleet.world.register([slot(0)])
    run_id = sqlite_fleet.world.run(soc_version=None)
    sqlite_fleet.tick()
    record = sqlite_fleet.world.run_record(run_id)
    assert (record.state, "no chip is online" in record.reason) == (RunState.SUBMITTED, True)
    sqlite_fleet.world.register([chip(0), slot(0)])
    sqlite_fleet.world.transact(devices.set_state, CHIP, DeviceState.ONLINE, "")  # it had vanished
    sqlite_fleet.tick()
    record = sqlite_fleet.world.run_record(run_id)
    assert (record.state, record.reason) == (RunState.ACTIVE, "")


def test_conversions_use_the_newest_toolchain_of_a_working_host(sqlite_fleet: Fleet) -> None:
    """A lost host's newer ATC is no reason to wait for it for ever."""
    sqlite_fleet.world.register([slot(0, "h2", toolchain="cann-9.9.9")], host="h2")
    sqlite_fleet.world.transact(devices.host_silent, "h2")
    run_id = sqlite_fleet.world.run()
    sqlite_fleet.work_off()
    assert sqlite_fleet.world.run_state(run_id) is RunState.SUCCEEDED


def test_two_loops_at_once_do_the_work_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the leader works; when it resigns the other takes over, and nothing is done twice."""
    monkeypatch.setattr("scheduler.loop.LEAD_TICKS", 600)  # at the tests' ticks the lead would end in 1.5 s
    other_sender = RecordingSender()
    other = fleet.new_loop(other_sender)
    run_id = fleet.world.run(goals=(JobKind.EXPORT,))
    fleet.tick()
    assert [fleet.loop.leads, other.run_once(), other.leads] == [True, 0, False]
    fleet.loop.resign()
    for job in fleet.claim_all():
        fleet.finish(job)
    assert other.run_once() > 0
    assert other.leads
    assert fleet.world.run_state(run_id) is RunState.SUCCEEDED


def test_two_leaders_at_once_break_nothing(sqlite_fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leading is an optimisation: both act on every tick, and every job still runs once."""
    monkeypatch.setattr("db.leadership.hold", lambda *_arguments: True)
    other = sqlite_fleet.new_loop(sqlite_fleet.sender)
    run_id = sqlite_fleet.world.run()
    for _ in range(30):
        other.run_once()
        sqlite_fleet.loop.run_once()
        for job in {item.job_id: item for item in sqlite_fleet.claim_all()}.values():
            sqlite_fleet.finish(job)
    assert sqlite_fleet.world.run_state(run_id) is RunState.SUCCEEDED
    attempts = [sqlite_fleet.world.attempt_states(job.job_id) for job in sqlite_fleet.world.read(job_queries.find)]
    assert {tuple(states) for states in attempts} == {(AttemptState.SUCCEEDED,)}


def test_an_om_run_starts_on_the_chip(sqlite_fleet: Fleet) -> None:
    """A compiled model needs neither export nor conversion."""
    source = run_spec().source.model_copy(update={"kind": SourceKind.OM})
    sqlite_fleet.world.run(source=source, goals=(JobKind.BENCHMARK,), dataset=None)
    assert sqlite_fleet.work_off() == [JobKind.BENCHMARK]
