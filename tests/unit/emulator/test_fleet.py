from typing import Any

import pytest

from emulator.fleet import Api, Chip, Fault, FaultKind, Fleet, FleetFileError, Mode, ServiceTime

CHIP: dict[str, Any] = {
    "logic_id": 0,
    "npu_id": 3,
    "chip_id": 0,
    "bus_id": "0000:01:00.0",
    "name": "310P3",
    "memory_total_mb": 100,
    "memory_idle_mb": 10,
}


def test_json_form_reads_back() -> None:
    """Nothing is lost on the way through fleet.json."""
    fleet = Fleet(
        chips=(Chip(**CHIP),),
        mode=Mode.TIMED,
        api=Api.FLOATS,
        service_time=ServiceTime(base_ms=3.0, jitter=0.1, seed=4),
        faults=(Fault(device=0, kind=FaultKind.SLOW, count=2, factor=5.0),),
    )
    assert Fleet.from_json(fleet.to_json()) == fleet
    assert fleet.to_json()["emulated"] is True


def test_a_short_file_has_defaults_and_says_emulated() -> None:
    """A person may write only the chips; the version numbers mark everything as emulated."""
    fleet = Fleet.from_json({"chips": [CHIP]})
    assert fleet.mode is Mode.COMPUTED
    assert "emulated" in fleet.driver_version
    assert "emulated" in fleet.toolkit_version


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"chips": [CHIP], "fault": []},
        {"chips": [{**CHIP, "colour": "red"}]},
        {"chips": [CHIP], "mode": "guessed"},
        {"chips": [CHIP], "faults": [{"device": 0, "kind": "tired"}]},
        {"chips": [CHIP], "faults": [{"device": 0, "kind": "slow", "factor": -3}]},
        {"chips": [CHIP], "faults": [{"device": 0, "kind": "slow", "factor": float("nan")}]},
        {"chips": [CHIP], "faults": [{"device": 0, "kind": "slow", "factor": "3"}]},
        {"chips": [CHIP], "faults": [{"device": 0, "kind": "hang", "count": 0}]},
        {"chips": [CHIP], "faults": [{"device": 0, "kind": "leak", "memory_mb": -1}]},
        {"chips": [CHIP], "faults": [{"device": None, "kind": "atc_slow", "seconds": -4}]},
        {"chips": [CHIP], "faults": [{"device": None, "kind": "atc_killed", "signal": 999}]},
        {"chips": [CHIP], "faults": [{"device": None, "kind": "atc_failed", "text": 5}]},
        {"chips": [CHIP], "service_time": {"base_ms": -1}},
        {"chips": [CHIP], "service_time": {"jitter": 2}},
        {"chips": [CHIP, CHIP]},
        {"chips": 7},
    ],
)
def test_malformed_files_are_refused_in_words(document: dict[str, Any]) -> None:
    """Typing errors are not taken for defaults."""
    with pytest.raises(FleetFileError, match=r"fleet\.json"):
        Fleet.from_json(document)


def test_a_counted_fault_ends() -> None:
    """The last strike takes the fault away; an uncounted one stays."""
    counted = Fault(device=0, kind=FaultKind.OOM, count=2)
    lasting = Fault(device=0, kind=FaultKind.HANG)
    fleet = Fleet(chips=(Chip(**CHIP),), faults=(counted, lasting))
    once = fleet.struck(counted)
    again = once.fault(0, FaultKind.OOM)
    assert again is not None
    assert again.count == 1
    assert once.struck(again).faults == (lasting,)
    assert fleet.struck(lasting) is fleet


def test_service_time_grows_with_the_batch() -> None:
    """Base plus a share per sample, in seconds."""
    assert ServiceTime(base_ms=2.0, per_sample_ms=0.5).mean_seconds(8) == pytest.approx(0.006)


def test_a_fault_is_of_a_chip_or_of_the_host() -> None:
    """What strikes atc has no chip, what strikes a chip has one, and health is one of npu-smi's words."""
    assert Fault(device=None, kind=FaultKind.ATC_KILLED).signal == 9
    for wrong in ({"device": 0, "kind": FaultKind.ATC_SLOW}, {"device": None, "kind": FaultKind.HANG}):
        with pytest.raises(ValueError, match="is a fault of"):
            Fault(**wrong)
    with pytest.raises(ValueError, match="none of"):
        Fault(device=0, kind=FaultKind.ALARM, health="sad")
