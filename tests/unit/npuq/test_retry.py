from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuq.errors import Blame, ErrorInfo
from npuq.retry import BACKOFF_CAP_SECONDS, MAX_LOSSES, Decision, backoff_seconds, decide
from npuq.states import JobState


def decided(blame: Blame, *, retry: bool, failures: int = 0, losses: int = 0) -> Decision:
    """Decide over an error of this kind, with three tries."""
    error = ErrorInfo(code="x", blame=blame, message="it failed", retry=retry)
    return decide(error, failures=failures, losses=losses, max_attempts=3, random=Random(1))


@pytest.mark.parametrize(
    ("blame", "retry", "failures", "losses", "state", "counters", "avoid", "refuse"),
    [
        (Blame.INPUT, False, 0, 0, JobState.FAILED, (1, 0), False, False),
        (Blame.INPUT, True, 0, 0, JobState.QUEUED, (1, 0), False, False),
        (Blame.INPUT, True, 2, 0, JobState.FAILED, (3, 0), False, False),
        (Blame.DEVICE, True, 0, 0, JobState.QUEUED, (0, 1), True, False),
        (Blame.DEVICE, True, 0, MAX_LOSSES, JobState.HELD, (0, MAX_LOSSES + 1), False, False),
        (Blame.HOST, True, 0, 0, JobState.QUEUED, (0, 1), True, False),
        (Blame.HOST, False, 0, MAX_LOSSES, JobState.QUEUED, (0, MAX_LOSSES), False, True),
        (Blame.FLEET, True, 2, MAX_LOSSES, JobState.QUEUED, (2, MAX_LOSSES), False, False),
        (Blame.FLEET, False, 0, 0, JobState.HELD, (0, 0), False, False),
    ],
)
def test_who_is_to_blame_decides(
    blame: Blame,
    state: JobState,
    counters: tuple[int, int],
    *,
    retry: bool,
    failures: int,
    losses: int,
    avoid: bool,
    refuse: bool,
) -> None:
    """The input burns tries, devices and hosts burn losses; services that are away and refusing hosts burn nothing."""
    decision = decided(blame, retry=retry, failures=failures, losses=losses)
    assert decision.state is state
    assert (decision.failures, decision.losses) == counters
    assert (decision.avoid_device, decision.refuse_host) == (avoid, refuse)


@given(tries=st.integers(min_value=1, max_value=1_000), seed=st.integers())
def test_the_pause_doubles_up_to_a_minute_and_is_never_the_same_for_all(tries: int, seed: int) -> None:
    """Between half the ceiling and the ceiling, whatever the count; 0 tries wait for nothing."""
    ceiling = min(BACKOFF_CAP_SECONDS, 2.0 ** min(tries - 1, 20))
    assert ceiling / 2 <= backoff_seconds(tries, Random(seed)) <= ceiling
    assert backoff_seconds(0, Random(seed)) == 0.0
    assert backoff_seconds(tries, Random(seed)) == backoff_seconds(tries, Random(seed))


@given(errors=st.lists(st.tuples(st.sampled_from(list(Blame)), st.booleans()), min_size=1, max_size=60))
def test_no_job_is_tried_for_ever(errors: list[tuple[Blame, bool]]) -> None:
    """Whatever the order of errors, the budgets bound the tries that burn one."""
    failures = losses = tries = 0
    for blame, retry in errors:
        decision = decided(blame, retry=retry, failures=failures, losses=losses)
        failures, losses = decision.failures, decision.losses
        tries += not decision.refuse_host and not (blame is Blame.FLEET and retry)
        if decision.state is not JobState.QUEUED:
            assert decision.delay_seconds == 0.0
            break
        assert failures < 3
        assert losses <= MAX_LOSSES
    assert tries <= 2 + MAX_LOSSES + 1
