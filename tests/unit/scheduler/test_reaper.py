import pytest

from db.records import ActiveAttempt
from npuq.config import LONG_ATTEMPT_SECONDS, Timing
from npuq.states import AttemptState
from scheduler.reaper import Witness
from tests.unit.scheduler.snapshots import attempt

TIMING = Timing()
LOST = TIMING.lost_seconds


def lost_after(witness: Witness, seen: ActiveAttempt, *, since: float, until: float) -> float | None:
    """Look every second, as the loop does; return when the attempt was called lost, None if it never was."""
    for second in range(int(since), int(until) + 1):
        if witness.lost([seen], float(second)):
            return float(second)
    return None


def test_both_witnesses_have_to_agree() -> None:
    """The lease is over and the counter stood still for a whole lease, seen by this scheduler itself."""
    over = attempt("j", lease_over=True)
    assert lost_after(Witness(TIMING), over, since=0, until=2 * LOST) == pytest.approx(LOST, abs=1.0)


def test_a_fresh_scheduler_takes_nothing_away() -> None:
    """Leases that ended while no scheduler was up wait one lease more."""
    assert Witness(TIMING).lost([attempt("j", lease_over=True)], 1e9) == []


@pytest.mark.parametrize("step", [3_600.0, 10 * 365 * 86_400.0])
def test_a_step_of_the_databases_clock_expires_nothing(step: float) -> None:
    """Every lease is over at once, but the counters go on."""
    witness = Witness(TIMING)
    for beat in range(1, 20):
        beating = attempt("j", lease_over=True, beats=beat, age_seconds=step)
        assert witness.lost([beating], beat * TIMING.beat_seconds) == []


def test_an_outage_of_the_database_expires_nothing() -> None:
    """After an hour without a look the first look sees the same counter; beats that follow save the attempt."""
    witness = Witness(TIMING)
    witness.lost([attempt("j", beats=5)], 0.0)
    assert witness.lost([attempt("j", beats=6, lease_over=True)], 3_600.0) == []
    assert witness.lost([attempt("j", beats=7)], 3_600.0 + LOST) == []


def test_time_in_which_nobody_could_look_does_not_count() -> None:
    """The database was away for longer than a lease: its first answer shows the old counter and an ended lease."""
    witness = Witness(TIMING)
    silent = attempt("j", beats=5, lease_over=True)
    assert lost_after(witness, silent, since=0, until=10) is None
    assert witness.lost([silent], 10 * LOST) == []
    assert lost_after(witness, silent, since=10 * LOST + 1, until=12 * LOST) == pytest.approx(11 * LOST - 10, abs=2.0)


def test_a_good_lease_protects_a_counter_that_stands_still() -> None:
    """The worker's last beat promised a lease that is not over."""
    assert lost_after(Witness(TIMING), attempt("j"), since=0, until=10 * LOST) is None


def test_one_more_beat_begins_the_wait_anew() -> None:
    """The wait is since the last beat that was seen."""
    witness = Witness(TIMING)
    assert lost_after(witness, attempt("j", lease_over=True), since=0, until=LOST - 2) is None
    beaten = attempt("j", lease_over=True, beats=2)
    assert lost_after(witness, beaten, since=LOST - 1, until=4 * LOST) == pytest.approx(2 * LOST - 1, abs=1.0)


def test_a_long_attempt_has_a_long_lease() -> None:
    """Redoing hours costs more than waiting minutes."""
    old = attempt("j", lease_over=True, age_seconds=LONG_ATTEMPT_SECONDS + 1)
    long = TIMING.lost_long_seconds
    assert lost_after(Witness(TIMING), old, since=0, until=2 * long) == pytest.approx(long, abs=1.0)


def test_the_next_attempt_of_a_job_is_another_one() -> None:
    """What was seen of attempt 1 says nothing of attempt 2; what nobody claimed cannot be lost."""
    witness = Witness(TIMING)
    witness.lost([attempt("j", lease_over=True)], 0.0)
    assert witness.lost([attempt("j", lease_over=True, number=2)], LOST + 1) == []
    waiting = attempt("j", lease_over=True, number=2, state=AttemptState.DISPATCHED)
    assert witness.lost([waiting], 9 * LOST) == []
