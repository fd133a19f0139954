from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuq.states import HEALING_CAUSES, DeviceCause, DeviceState
from worker.health import (
    GOOD_LOOKS,
    LEAK_MIB,
    Look,
    Ruling,
    Standing,
    Streaks,
    after_error,
    baseline,
    holds_memory,
    is_idle,
    judge,
    judge_silence,
)

WELL = Look(health="OK", unowned_memory_mib=1000, processes_known=True)
LEAKING = Look(health="OK", unowned_memory_mib=1001 + LEAK_MIB, processes_known=True)
LONG = Streaks(good=GOOD_LOOKS, dirty=0)


def _standing(
    state: DeviceState = DeviceState.ONLINE,
    cause: str = DeviceCause.FOUND,
    *,
    in_use: bool = False,
    baseline_mib: int | None = 1000,
    falls: dict[DeviceCause, int] | None = None,
) -> Standing:
    return Standing(state=state, cause=cause, in_use=in_use, baseline_mib=baseline_mib, falls=falls or {})


def _ruled(look: Look, standing: Standing, streaks: Streaks = LONG) -> tuple[DeviceState, DeviceCause] | None:
    ruling = judge(look, standing, streaks)
    return None if ruling is None else (ruling.state, ruling.cause)


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        ("OK", None),
        ("Warning", None),
        ("Alarm", (DeviceState.QUARANTINED, DeviceCause.ALARM)),
        ("Critical", (DeviceState.QUARANTINED, DeviceCause.CRITICAL)),
        ("UNKNOWN", (DeviceState.DRAINING, DeviceCause.UNKNOWN_HEALTH)),
        ("Sleepy", (DeviceState.DRAINING, DeviceCause.UNKNOWN_HEALTH)),
        (None, (DeviceState.LOST, DeviceCause.VANISHED)),
    ],
)
def test_words_of_health(health: str | None, expected: tuple[DeviceState, DeviceCause] | None) -> None:
    """Each word has its ruling; a word that nobody knows is unknown; strangers' processes change nothing."""
    assert _ruled(Look(health=health), _standing(), Streaks()) == expected
    assert _ruled(Look(health=health, processes=3), _standing(), Streaks()) == expected


@pytest.mark.parametrize("state", [DeviceState.DRAINING, DeviceState.QUARANTINED])
@pytest.mark.parametrize("cause", ["", *sorted(set(DeviceCause) - HEALING_CAUSES)])
@pytest.mark.parametrize("look", [WELL, Look(health="Alarm"), Look(health=None)])
def test_what_needs_a_person_waits_for_one(state: DeviceState, cause: str, look: Look) -> None:
    """Neither good nor bad looks move it."""
    assert judge(look, _standing(state, cause), LONG) is None


@pytest.mark.parametrize("cause", sorted(HEALING_CAUSES))
def test_three_good_looks_bring_a_chip_back(cause: DeviceCause) -> None:
    """Not one fewer, but for an npu-smi that answers again."""
    standing = _standing(DeviceState.QUARANTINED, cause)
    needed = 1 if cause is DeviceCause.NO_ANSWER else GOOD_LOOKS
    assert judge(WELL, standing, Streaks(good=needed - 1)) is None
    assert _ruled(WELL, standing, Streaks(good=needed)) == (DeviceState.ONLINE, DeviceCause.RETURNED)


@pytest.mark.parametrize("cause", sorted(HEALING_CAUSES - {DeviceCause.NO_ANSWER}))
def test_the_third_fall_of_a_day_needs_a_person(cause: DeviceCause) -> None:
    """Equal ones only; the reason says what to do."""
    tired = _standing(DeviceState.QUARANTINED, cause, falls={cause: 3})
    ruling = judge(WELL, tired, LONG)
    assert ruling is not None
    assert (ruling.state, ruling.cause) == (DeviceState.QUARANTINED, DeviceCause.REPEATED)
    assert "resume" in ruling.reason
    other = next(each for each in HEALING_CAUSES if each is not cause)
    mixed = _standing(DeviceState.QUARANTINED, cause, falls={cause: 2, other: 5})
    assert _ruled(WELL, mixed) == (DeviceState.ONLINE, DeviceCause.RETURNED)


def test_trouble_that_lasts_is_said_once_and_a_new_one_again() -> None:
    """A chip that alarms stays as it is; when it vanishes it is lost."""
    alarming = _standing(DeviceState.QUARANTINED, DeviceCause.ALARM)
    assert judge(Look(health="Alarm"), alarming, Streaks()) is None
    assert _ruled(Look(health=None), alarming) == (DeviceState.LOST, DeviceCause.VANISHED)


def test_held_memory_needs_two_looks_and_an_idle_chip() -> None:
    """Unknown processes, an unknown baseline or work of ours conclude nothing."""
    standing = _standing()
    streaks = Streaks().after(LEAKING, standing)
    assert judge(LEAKING, standing, streaks) is None
    streaks = streaks.after(LEAKING, standing)
    assert _ruled(LEAKING, standing, streaks) == (DeviceState.QUARANTINED, DeviceCause.DIRTY)
    for unknown in (
        Look(health="OK", unowned_memory_mib=9_000),
        Look(health="OK", processes_known=True),
        Look(health="OK", unowned_memory_mib=1_000 + LEAK_MIB, processes_known=True),
    ):
        assert not holds_memory(unknown, standing)
    assert not holds_memory(LEAKING, _standing(in_use=True))
    assert not holds_memory(LEAKING, _standing(baseline_mib=None))


def test_a_dirty_chip_comes_back_when_its_memory_does() -> None:
    """Looks with held memory are not good ones."""
    dirty = _standing(DeviceState.QUARANTINED, DeviceCause.DIRTY)
    streaks = Streaks()
    for look in (LEAKING, WELL, WELL):
        streaks = streaks.after(look, dirty)
        assert judge(look, dirty, streaks) is None
    assert _ruled(WELL, dirty, streaks.after(WELL, dirty)) == (DeviceState.ONLINE, DeviceCause.RETURNED)


def test_silence_of_the_tool_drains_and_does_not_lose() -> None:
    """Once may happen; a chip that is out of service anyway is not touched."""
    assert judge_silence(_standing(), 1) is None
    ruling = judge_silence(_standing(), 2)
    assert ruling is not None
    assert (ruling.state, ruling.cause) == (DeviceState.DRAINING, DeviceCause.NO_ANSWER)
    assert judge_silence(_standing(DeviceState.DRAINING, DeviceCause.PERSON), 2) is None


@pytest.mark.parametrize(("times", "limit", "falls"), [(1, 1, True), (1, 2, False), (2, 2, True), (9, 0, False)])
def test_errors_of_a_chip(times: int, limit: int, *, falls: bool) -> None:
    """At the limit it is quarantined, and only a person takes that back; 0 is never."""
    ruling = after_error("device_open", times, limit)
    assert (ruling is not None) is falls
    if ruling is not None:
        assert (ruling.state, ruling.cause) == (DeviceState.QUARANTINED, DeviceCause.ERRORS)
        assert ruling.cause not in HEALING_CAUSES


def test_idle_looks_teach_what_is_usual() -> None:
    """The median where everybody is seen, the least where strangers may be hidden."""
    assert is_idle(WELL, _standing(baseline_mib=None))
    assert is_idle(replace(WELL, processes=2), replace(_standing(), loaded=True))
    for look, standing in (
        (WELL, _standing(in_use=True)),
        (replace(WELL, processes_known=False), replace(_standing(), loaded=True)),
        (LEAKING, _standing()),
        (Look(health="Alarm", unowned_memory_mib=5), _standing()),
    ):
        assert not is_idle(look, standing)
    assert baseline([5, 900, 7], processes_known=True) == 7
    assert baseline([5, 900, 7], processes_known=False) == 5


LOOKS = st.builds(
    Look,
    health=st.sampled_from([None, "OK", "Warning", "Alarm", "Critical", "UNKNOWN", ""]),
    unowned_memory_mib=st.none() | st.integers(0, 50_000),
    processes=st.integers(0, 3),
    processes_known=st.booleans(),
)


@given(st.lists(LOOKS, max_size=12))
def test_whatever_is_seen_a_chip_ends_well_after_good_looks_or_waits_for_a_person(looks: list[Look]) -> None:
    """No sequence of looks leaves a chip in a state that nothing moves on."""
    standing, streaks = _standing(), Streaks()
    falls: dict[DeviceCause, int] = {}
    for look in [*looks, *[WELL] * GOOD_LOOKS]:
        streaks = streaks.after(look, standing)
        ruling: Ruling | None = judge(look, standing, streaks)
        if ruling is not None:
            falls[ruling.cause] = falls.get(ruling.cause, 0) + (ruling.state is not DeviceState.ONLINE)
            standing = _standing(ruling.state, ruling.cause, falls=falls)
    assert standing.state is DeviceState.ONLINE or standing.cause is DeviceCause.REPEATED
