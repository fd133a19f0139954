"""Measurements of whole cards: what is a card, and how their jobs are placed."""

from db.records import DeviceRecord, JobRecord
from npuq.states import DeviceState, JobKind
from scheduler.cards import chips_of_a_card, why_card_waits
from scheduler.placement import place
from tests.services.world import SOC
from tests.unit.scheduler.snapshots import attempt, device, job

SHORT = {("mobilenet_v1", JobKind.INFER): 1.0, ("mobilenet_v1", JobKind.BENCHMARK): 1.0}


def duo(npu_id: int, **second: object) -> list[DeviceRecord]:
    """Return a card with two chips."""
    one = device(f"h1.npu{npu_id}.0", npu_id=npu_id)
    return [one, device(f"h1.npu{npu_id}.1", npu_id=npu_id, chip_id=1, **second)]


def pair(name: str, **changes: object) -> list[JobRecord]:
    """Return the two jobs that measure a card, the leading one first."""
    params = {"scope": "card", "chips": 2}
    return [
        job(name, JobKind.BENCHMARK, lead_id=name, params=params, **changes),
        job(f"{name}+", JobKind.BENCHMARK, lead_id=name, params=params | {"companion": 1}, **changes),
    ]


def placed(queued: list[JobRecord], fleet: list[DeviceRecord], *busy: str, together: list[JobRecord]) -> dict[str, str]:
    """Return job id -> device id of what is placed while some devices run a job."""
    groups: dict[str, list[JobRecord]] = {}
    for each in together:
        groups.setdefault(str(each.lead_id), []).append(each)
    active = [attempt(f"a{number}", device_id, run_id="other") for number, device_id in enumerate(busy)]
    chosen = place(queued, fleet, active, models={}, estimates=SHORT, together=groups)
    return {item.job_id: item.device_id for item in chosen}


def test_a_card_is_as_large_as_the_largest() -> None:
    """A container may show one chip of a card only, and what nobody has seen for long is not there."""
    assert chips_of_a_card([device("h1.npu0.0"), *duo(1)], SOC) == 2
    assert chips_of_a_card(duo(1, forgotten=True), SOC) == 1
    assert chips_of_a_card(duo(1, state=DeviceState.LOST), SOC) == 2
    assert chips_of_a_card([], SOC) is None


def test_the_jobs_of_a_card_go_to_one_card_at_once() -> None:
    """Each to a chip of its own, and not across two cards."""
    fleet = [*duo(0), *duo(1)]
    both = pair("c")
    assert placed(both[:1], fleet, together=both) == {"c": "h1.npu0.0", "c+": "h1.npu0.1"}
    assert placed(both[:1], fleet, "h1.npu0.0", together=both) == {"c": "h1.npu1.0", "c+": "h1.npu1.1"}


def test_a_card_that_is_not_free_runs_empty_for_what_comes_first() -> None:
    """Its free chip is given nothing new, now or ahead; the other card works on."""
    fleet = [*duo(0), *duo(1)]
    both = pair("c")
    queue = [both[0], *(job(f"j{number}") for number in range(6))]
    got = placed(queue, fleet, "h1.npu0.0", "h1.npu1.0", "h1.npu1.1", together=both)
    assert "c" not in got
    assert not {"h1.npu0.0", "h1.npu0.1"} & set(got.values())
    assert set(got.values()) == {"h1.npu1.0", "h1.npu1.1"}  # given ahead


def test_two_measurements_of_one_card_come_one_after_the_other() -> None:
    """Never a chip for each of them, on which both would wait for ever."""
    first, second = pair("c", run_id="r1"), pair("d", run_id="r2")
    got = placed([first[0], second[0]], duo(0), together=[*first, *second])
    assert got == {"c": "h1.npu0.0", "c+": "h1.npu0.1"}


def test_a_part_of_a_card_is_not_measured_as_a_card() -> None:
    """While a chip is sick, the other one does other work, and it can be said what is waited for."""
    fleet = duo(0, state=DeviceState.QUARANTINED, state_reason="Alarm")
    both = pair("c")
    assert placed([both[0], job("j")], fleet, together=both) == {"j": "h1.npu0.0"}
    assert placed(both[:1], duo(0), together=both[:1]) == {}  # its companion still runs, or is not to be tried yet
    told = why_card_waits(fleet, SOC, 2)
    assert "a part of a card is not measured" in told[0]
    assert told[1] == "card 0 of h1: h1.npu0.0 is online, h1.npu0.1 is quarantined (Alarm)"
    assert why_card_waits(fleet[:1], SOC, 2) == [f"it needs a card with 2 chips of {SOC}: card 0 of h1 has 1"]


def test_a_card_that_failed_comes_last() -> None:
    """Whichever of the jobs it was."""
    lead, other = pair("c", avoid_devices=("h1.npu0.1",))
    assert placed([lead], [*duo(0), *duo(1)], together=[lead, other])["c"] == "h1.npu1.0"
    assert placed([lead], duo(0), together=[lead, other])["c"] == "h1.npu0.0"
