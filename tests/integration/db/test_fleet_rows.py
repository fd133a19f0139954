"""Hosts, devices, the lead, runs and datasets as rows: what is derived, what is kept, what is found."""

from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError

from db import datasets, devices, job_queries, leadership, results, runs
from db.tables import Host
from db.types import db_now
from npuq.errors import NotFoundError
from npuq.states import DeviceKind, DeviceState, JobKind, JobState, RunState
from tests.services.world import CHIP, HOST, SLOT, World, chip, new_result, run_spec, slot


def state_of(world: World, device_id: str) -> DeviceState:
    """Return the state of a device as it is shown."""
    found: DeviceState = world.read(devices.get, device_id, suspect_seconds=30.0).state
    return found


def test_busy_and_lost_are_derived(world: World) -> None:
    """A chip that runs something is busy; a silent host's are lost until it beats again; drained ones stay drained."""
    world.job(JobState.RUNNING)
    assert state_of(world, CHIP) is DeviceState.BUSY
    assert state_of(world, SLOT) is DeviceState.ONLINE
    world.transact(devices.set_state, SLOT, DeviceState.DRAINING, "maintenance")
    with world.database.write() as connection:
        connection.execute(update(Host).values(heartbeat_at=db_now(-31)))
    assert (state_of(world, CHIP), state_of(world, SLOT)) == (DeviceState.LOST, DeviceState.DRAINING)
    assert world.transact(devices.host_beat, HOST) == []
    assert state_of(world, CHIP) is DeviceState.BUSY


def test_registering_again_updates_facts_and_keeps_peoples_word(world: World) -> None:
    """Health and toolchain follow the host; quarantine does not end because the launcher restarted."""
    world.transact(devices.set_state, CHIP, DeviceState.QUARANTINED, "a process survives KILL")
    world.register([chip(0, health="Warning", toolchain="cann-9"), slot(0)])
    record = world.read(devices.get, CHIP, suspect_seconds=30.0)
    assert (record.health, record.toolchain, record.state) == ("Warning", "cann-9", DeviceState.QUARANTINED)
    assert world.transact(devices.set_state, CHIP, DeviceState.ONLINE, "") is DeviceState.QUARANTINED
    shown = world.read(devices.find, suspect_seconds=30.0, kind=DeviceKind.NPU)
    assert [(item.device_id, item.state) for item in shown] == [
        (CHIP, DeviceState.ONLINE),
        ("h1.npu1.0", DeviceState.LOST),
    ]


def test_a_name_belongs_to_one_machine_at_a_time(world: World) -> None:
    """Another machine is refused while the first beats; after a silence, or on the same machine, the name is free."""
    world.transact(devices.register, HOST, {"machine": "a"}, [slot(0)])
    world.transact(devices.claim_name, HOST, "a", suspect_seconds=30.0)
    world.transact(devices.claim_name, "h2", "b", suspect_seconds=30.0)
    with pytest.raises(devices.HostNameTakenError, match="NPUQ_HOST_NAME"):
        world.transact(devices.claim_name, HOST, "b", suspect_seconds=30.0)
    with world.database.write() as connection:
        connection.execute(update(Host).values(heartbeat_at=db_now(-31)))
    world.transact(devices.claim_name, HOST, "b", suspect_seconds=30.0)


def test_a_device_that_is_not_there_is_told(world: World) -> None:
    """With the command that lists those that are."""
    with pytest.raises(NotFoundError, match="npuq devices list"):
        world.read(devices.get, "nobody", suspect_seconds=1.0)
    with pytest.raises(NotFoundError, match="npuq devices list"):
        world.transact(devices.set_state, "nobody", DeviceState.DRAINING, "")


def test_one_scheduler_leads_and_the_next_takes_over(world: World) -> None:
    """By the database's clock: renewed, refused to the other, free after its end or a resignation."""
    assert world.transact(leadership.hold, "a", 60.0)
    assert world.transact(leadership.hold, "a", 60.0)
    assert not world.transact(leadership.hold, "b", 60.0)
    assert world.read(leadership.leader) == "a"
    world.transact(leadership.resign, "b")
    assert not world.transact(leadership.hold, "b", 60.0)
    world.transact(leadership.resign, "a")
    assert world.transact(leadership.hold, "b", -1.0)
    assert world.read(leadership.leader) is None
    assert world.transact(leadership.hold, "a", 60.0)


def test_a_submission_is_accepted_once(world: World) -> None:
    """Sent twice it is one run, and what was asked for is read back as it was."""
    spec = run_spec(batch_sizes=(1, 4))
    assert world.transact(runs.accept, spec)
    assert not world.transact(runs.accept, spec)
    record = world.run_record(spec.run_id)
    assert type(spec).model_validate(record.spec) == spec
    assert (record.state, record.submitted_at) == (RunState.SUBMITTED, spec.submitted_at)


def test_ids_are_found_by_a_unique_prefix(world: World) -> None:
    """`@last` is the newest; an ambiguous or unknown prefix is told, and `%` is no wildcard."""
    with pytest.raises(NotFoundError, match="npuq demo"):
        world.read(runs.resolve, "@last")
    first, last = world.run(), world.run()
    assert world.read(runs.resolve, "@last") == last
    assert world.read(runs.resolve, first) == first
    with pytest.raises(NotFoundError, match="is not unique"):
        world.read(runs.resolve, first[:4])
    for prefix in ("zzz", "%"):
        with pytest.raises(NotFoundError, match="no run begins with"):
            world.read(runs.resolve, prefix)
    job = world.job()
    assert world.read(job_queries.resolve, job.job_id[:12]) == job.job_id
    with pytest.raises(NotFoundError, match="no job begins with"):
        world.read(job_queries.resolve, "_")


def test_results_are_found_by_what_they_measured(world: World) -> None:
    """Filters are joined by `and`; the newest come first."""
    for batch_size in (1, 4):
        result = new_result(
            batch_size=batch_size, metrics={"throughput_fps": (batch_size, "fps"), "h2d_ms": (1.0, "ms")}
        )
        world.job(JobState.SUCCEEDED, JobKind.BENCHMARK, result=result)
    found = world.read(results.find, recipe="mobilenet_v1", kind="performance")
    assert [item.batch_size for item in found] == [4, 1]
    (one,) = world.read(results.find, batch_size=1, soc_version="Ascend310P3")
    assert one.metrics == {"throughput_fps": 1.0, "h2d_ms": 1.0}
    assert world.read(results.find, recipe="another") == []
    assert [item.result_id for item in world.read(results.by_prefix, one.result_id[:10])] == [one.result_id]


def test_a_result_remembers_which_part_of_a_dataset_it_is_of(world: World) -> None:
    """How many images of how many, and which."""
    for samples, images_digest in ((24, "1" * 64), (240, None)):
        part = {"dataset": "small", "samples": samples, "dataset_samples": 240, "images_digest": images_digest}
        world.job(JobState.SUCCEEDED, JobKind.EVALUATE, result=new_result(kind="accuracy", **part))
    world.job(JobState.SUCCEEDED, JobKind.BENCHMARK, result=new_result())
    found = world.read(results.find)
    assert [(item.samples, item.images_digest, item.is_partial) for item in found] == [
        (None, None, False),
        (240, None, False),
        (24, "1" * 64, True),
    ]


def test_a_host_may_have_its_own_folder_of_a_dataset(world: World) -> None:
    """The others use the usual one, or the store; the folder goes with the content it had."""
    given = {"name": "d", "format": "voc", "root": "/usual", "samples": 10}
    world.transact(datasets.put, digest="1" * 64, **given)
    for root in ("/first", "/own"):
        world.transact(datasets.put_folder, name="d", host="h2", root=root)
    found = world.read(datasets.get, "d")
    assert (found.folder_on("h1"), found.folder_on("h2")) == ("/usual", "/own")
    world.transact(datasets.put, digest="1" * 64, in_store=True, size_bytes=2**40, notes=["odd"], **given)
    (found,) = world.read(datasets.find)
    assert (found.folder_on("h1"), found.folder_on("h2")) == (None, "/own")
    assert (found.size_bytes, found.notes) == (2**40, ("odd",))
    assert world.transact(datasets.remove_folder, "d", "h2")
    assert not world.transact(datasets.remove_folder, "d", "h2")
    world.transact(datasets.put_folder, name="d", host="h2", root="/own")
    world.transact(datasets.put, digest="2" * 64, **given)
    assert world.read(datasets.get, "d").folders == {}


def test_a_dataset_is_forgotten_with_its_folders(world: World) -> None:
    """And only once; nobody can note a folder of what is not registered."""
    world.transact(datasets.put, name="d", format="voc", root="/usual", digest="1" * 64, samples=10)
    world.transact(datasets.put_folder, name="d", host="h2", root="/own")
    assert world.transact(datasets.remove, "d")
    assert not world.transact(datasets.remove, "d")
    with pytest.raises(DBAPIError, match=r"(?i)foreign key"):
        world.transact(datasets.put_folder, name="d", host="h2", root="/own")
    world.transact(datasets.put, name="d", format="voc", root="/usual", digest="1" * 64, samples=10)
    assert world.read(datasets.get, "d").folders == {}


def test_a_dataset_is_replaced_under_its_name(world: World, tmp_path: Path) -> None:
    """Results keep the digest they were made from; the name means the newest."""
    for samples in (10, 20):
        world.transact(
            datasets.put, name="d", format="voc", root=str(tmp_path), digest=str(samples) * 32, samples=samples
        )
    (found,) = world.read(datasets.find)
    assert (found.samples, found.digest, world.read(datasets.get, "other")) == (20, "20" * 32, None)
