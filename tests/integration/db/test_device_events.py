"""What devices remember: why they are in their state, how often they fell, and what a person forgives."""

from sqlalchemy import inspect

from db import device_events, devices, jobs, schema
from db.engine import Database
from db.records import BeatReply
from npuq.errors import Blame, ErrorInfo
from npuq.states import DeviceCause, DeviceState, JobState
from scheduler.placement import is_working
from tests.services.world import CHIP, HOST, LEASE_SECONDS, OTHER_CHIP, OWNER, World, chip, decision_for, slot

SICK = ErrorInfo(code="device_open", blame=Blame.DEVICE, message="it does not open", retry=True)


def _causes(world: World, device_id: str = CHIP) -> list[DeviceCause]:
    return [event.cause for event in world.read(device_events.of_device, device_id)]


def _state(world: World, device_id: str = CHIP) -> tuple[DeviceState, str]:
    record = world.read(devices.get, device_id, suspect_seconds=60)
    return record.state, record.state_cause


def test_every_move_is_remembered_with_its_reason(world: World) -> None:
    """Newest first: found, quarantined by health, resumed by a person."""
    move = {"state": DeviceState.QUARANTINED, "cause": DeviceCause.ALARM, "reason": "its health is Alarm"}
    world.transact(devices.move, CHIP, DeviceCause.FOUND, **move)
    world.transact(devices.set_state, CHIP, DeviceState.ONLINE, "looked at")
    events = world.read(device_events.of_device, CHIP)
    assert [(event.state, event.cause, event.reason) for event in events] == [
        (DeviceState.ONLINE, DeviceCause.PERSON, "looked at"),
        (DeviceState.QUARANTINED, DeviceCause.ALARM, "its health is Alarm"),
        (DeviceState.ONLINE, DeviceCause.FOUND, "seen for the first time"),
    ]
    assert [event.at for event in events] == sorted((event.at for event in events), reverse=True)


def test_health_does_not_overrule_who_was_faster(world: World) -> None:
    """A move that expects another cause changes nothing."""
    world.transact(devices.set_state, CHIP, DeviceState.DRAINING, "maintenance")
    move = {"state": DeviceState.QUARANTINED, "cause": DeviceCause.ALARM, "reason": "its health is Alarm"}
    world.transact(devices.move, CHIP, DeviceCause.FOUND, **move)
    assert _state(world) == (DeviceState.DRAINING, DeviceCause.PERSON)


def test_a_vanished_chip_does_not_come_back_by_being_seen(world: World) -> None:
    """Its launcher's health policy brings it back; a slot needs no proof."""
    world.register([chip(1), slot(1)])
    assert _state(world) == (DeviceState.LOST, DeviceCause.VANISHED)
    world.register([chip(0), chip(1), slot(0), slot(1)])
    assert _state(world) == (DeviceState.LOST, DeviceCause.VANISHED)
    assert _state(world, f"{HOST}.host.0") == (DeviceState.ONLINE, DeviceCause.RETURNED)


def test_a_stopped_host_is_back_at_once(world: World) -> None:
    """Nothing was wrong with its chips."""
    world.transact(devices.host_silent, HOST)
    assert _state(world) == (DeviceState.LOST, DeviceCause.HOST_STOPPED)
    world.register([chip(0), chip(1), slot(0), slot(1)])
    assert _state(world) == (DeviceState.ONLINE, DeviceCause.RETURNED)


def test_a_stopping_hosts_devices_drain_first(world: World) -> None:
    """What a person drained stays theirs; the rest is lost at the end, or back when the stop was cut short."""
    slot_0, slot_1 = f"{HOST}.host.0", f"{HOST}.host.1"
    world.register([chip(0), chip(1), slot(0), slot(1)])
    world.transact(devices.set_state, slot_1, DeviceState.DRAINING, "maintenance")
    world.transact(devices.host_stopping, HOST)
    assert _state(world) == (DeviceState.DRAINING, DeviceCause.HOST_STOPPED)
    assert not is_working(world.read(devices.get, CHIP, suspect_seconds=30.0))
    world.register([chip(0), chip(1), slot(0), slot(1)])
    assert _state(world) == _state(world, slot_0) == (DeviceState.ONLINE, DeviceCause.RETURNED)
    world.transact(devices.host_stopping, HOST)
    world.transact(devices.host_silent, HOST)
    assert _state(world) == (DeviceState.LOST, DeviceCause.HOST_STOPPED)
    assert _state(world, slot_1) == (DeviceState.DRAINING, DeviceCause.PERSON)


def test_falls_are_counted_until_a_person_forgives(world: World) -> None:
    """By cause; other devices have their own."""
    for cause in (DeviceCause.ALARM, DeviceCause.ALARM, DeviceCause.DIRTY):
        world.transact(devices.set_state, CHIP, DeviceState.QUARANTINED, "sick", cause)
        world.transact(devices.set_state, CHIP, DeviceState.ONLINE, "", DeviceCause.RETURNED)
    world.transact(devices.set_state, OTHER_CHIP, DeviceState.QUARANTINED, "sick", DeviceCause.ALARM)
    counted = world.read(device_events.falls, HOST)
    assert counted[CHIP] == {DeviceCause.ALARM: 2, DeviceCause.DIRTY: 1}
    assert counted[OTHER_CHIP] == {DeviceCause.ALARM: 1}
    world.transact(devices.set_state, CHIP, DeviceState.ONLINE, "")
    assert CHIP not in world.read(device_events.falls, HOST)


def test_errors_of_a_chip_are_counted_until_a_person_forgives(world: World) -> None:
    """Only those with the code that blame the chip."""
    for error in (SICK, SICK, SICK.__class__(code="device_open", blame=Blame.INPUT, message="x", retry=False)):
        job = world.job(JobState.RUNNING)
        decision = decision_for(error, world.record(job))
        world.transact(jobs.fail, job.job_id, job.attempt, owner=OWNER, error=error, decision=decision)
    assert world.read(device_events.errors, CHIP, "device_open") == 2
    assert world.read(device_events.errors, CHIP, "device_lost") == 0
    world.transact(devices.set_state, CHIP, DeviceState.ONLINE, "")
    assert world.read(device_events.errors, CHIP, "device_open") == 0


def test_resuming_forgets_what_idle_memory_was(world: World) -> None:
    """A person says that what is in use now is as it should be."""
    world.transact(devices.learn_baseline, CHIP, 900)
    assert world.read(devices.get, CHIP, suspect_seconds=60).memory_baseline_mib == 900
    world.transact(devices.set_state, CHIP, DeviceState.ONLINE, "")
    assert world.read(devices.get, CHIP, suspect_seconds=60).memory_baseline_mib is None


def test_the_beat_tells_that_the_chip_is_sick_or_gone(world: World) -> None:
    """A drained chip finishes its job; a quarantined or vanished one does not."""
    job = world.job(JobState.RUNNING)

    def beat() -> BeatReply:
        reply: BeatReply = world.transact(
            jobs.beat, job.job_id, job.attempt, owner=job.owner, lease_seconds=LEASE_SECONDS
        )
        return reply

    assert beat() == BeatReply(cancel=False, drain=False, evict=False)
    world.transact(devices.set_state, CHIP, DeviceState.DRAINING, "maintenance")
    assert beat() == BeatReply(cancel=False, drain=True, evict=False)
    world.transact(devices.set_state, CHIP, DeviceState.QUARANTINED, "sick", DeviceCause.ALARM)
    assert beat().evict
    world.transact(devices.set_state, CHIP, DeviceState.ONLINE, "")
    world.register([chip(1)])
    assert beat().evict


def test_identities_name_the_rows(world: World) -> None:
    """So that a launcher finds a chip's row again under another number."""
    found = world.read(devices.identities, HOST)
    assert found[f"{HOST}/0/0"] == CHIP


def test_the_release_before_is_one_step_down(database: Database) -> None:
    """Downgrading takes the table and the columns away, upgrading brings them back."""
    schema.downgrade(database, "0001")
    assert "device_events" not in inspect(database.engine).get_table_names()
    assert "state_cause" not in {column["name"] for column in inspect(database.engine).get_columns("devices")}
    schema.upgrade(database)
    assert schema.check(database) == []
