"""A card with two chips measured as a whole, on a fleet of processes: both at once, and again when one falls out."""

from collections.abc import Iterator

import pytest

from db import devices, job_queries
from db.records import JobRecord
from npuq.states import DeviceCause, DeviceState, JobState
from tests.fleet.fleet import Fleet, FleetPlan
from tests.fleet.laptop import Person
from tests.fleet.models import write_tiny_onnx
from tests.services.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

SERVICE_MS = 20.0
LOOPS = 150


@pytest.fixture
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Return a person at a fleet of one 300I Duo."""
    plan = FleetPlan(chips=2, chips_per_card=2, service_ms=SERVICE_MS)
    with Fleet(tmp_path_factory.mktemp("duo") / "home", plan) as fleet:
        yield Person(fleet)


def _jobs(person: Person, run_id: str) -> dict[str, JobRecord]:
    with person.fleet.client.database.read() as connection:
        return {job.label: job for job in job_queries.find(connection, run_id=run_id)}


def _states(person: Person, run_id: str, *labels: str) -> set[JobState]:
    return {job.state for label, job in _jobs(person, run_id).items() if label in labels or not labels}


def _set(person: Person, device_id: str, state: DeviceState) -> None:
    person.fleet.client.database.transact(
        lambda c: devices.set_state(c, device_id, state, "taken out by a test", DeviceCause.PERSON)
    )


def test_a_cards_number_is_measured_beside_the_chips(person: Person) -> None:
    """One chip falls out of the first try: half a card is not measured, it is said why, and both begin again."""
    model = write_tiny_onnx(person.fleet.home / "tiny.onnx")
    options = ("--onnx", str(model), "--loops", str(LOOPS), "--scope", "card", "-o", "name")
    run_id = person.npuq("submit", "benchmark", "mobilenet_v1", *options).stdout.strip()
    lead, companion = "benchmark card bs1 fp16", "benchmark card bs1 fp16 2/2"
    wait_until(lambda: _states(person, run_id, lead, companion) == {JobState.RUNNING}, "both chips work", 60.0)
    second = _jobs(person, run_id)[companion].device_id
    assert second is not None
    _set(person, second, DeviceState.QUARANTINED)
    wait_until(lambda: _states(person, run_id, lead) == {JobState.QUEUED}, "the leading job gave up", 30.0)
    assert "a part of a card is not measured as a card" in person.npuq("why", run_id).stdout
    _set(person, second, DeviceState.ONLINE)
    person.wait(run_id)

    found = {result["scope"]: result for result in person.read("results", "list", "--run", run_id)}
    assert sorted(found) == ["card", "chip"]
    assert (found["card"]["device_id"], found["card"]["quality"]) == (None, "clean")
    facts = person.read("results", "show", found["card"]["result_id"])["facts"]
    chips = facts["card"]["chips"]
    assert len({chip["device_id"] for chip in chips}) == 2
    assert found["card"]["metrics"]["throughput_fps"] == pytest.approx(sum(chip["throughput_fps"] for chip in chips))
    # The emulated chip is never faster than its service time, and a busy machine makes it slower.
    assert all(0.5 < chip["throughput_fps"] * SERVICE_MS / 1000 < 1.02 for chip in chips)
    assert all(chip["executions"] >= LOOPS for chip in chips)
    assert facts["window_seconds"] > 0.9 * LOOPS * SERVICE_MS / 1000
    assert _states(person, run_id) == {JobState.SUCCEEDED}
    table = person.npuq("report", run_id).stdout
    assert "Ascend310P3 card of 2 (emulated)" in table
