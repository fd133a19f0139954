from random import Random

import pytest

from npuq.errors import Blame, ErrorInfo
from npuq.retry import convict, decide
from npuq.states import JobState

KERNEL = ErrorInfo(code="device_exception", blame=Blame.DEVICE, message="A kernel failed.", retry=True, once=True)


def _after(error: ErrorInfo) -> tuple[JobState, bool]:
    decision = decide(error, failures=0, losses=0, max_attempts=3, random=Random(0))
    return decision.state, decision.avoid_device


def test_a_kernel_that_fails_on_two_chips_is_the_models_fault() -> None:
    """First it goes elsewhere, then it fails for good, and says why."""
    assert _after(convict(KERNEL, None)) == (JobState.QUEUED, True)
    second = convict(KERNEL, "device_exception")
    assert (second.blame, second.retry) == (Blame.INPUT, False)
    assert "twice" in second.message
    assert _after(second) == (JobState.FAILED, False)


@pytest.mark.parametrize(("once", "previous"), [(True, "device_open"), (False, "device_exception"), (True, None)])
def test_other_repetitions_are_not(once: bool, previous: str | None) -> None:  # noqa: FBT001 - parametrised
    """Another failure in between, or a kind that may pass, proves nothing."""
    error = ErrorInfo(code="device_exception", blame=Blame.DEVICE, message="x", retry=True, once=once)
    assert convict(error, previous) == error


def test_the_mark_travels() -> None:
    """From the child process to its worker; older ones do not know it."""
    assert ErrorInfo.from_dict(KERNEL.as_dict()) == KERNEL
    old = {name: value for name, value in KERNEL.as_dict().items() if name != "once"}
    assert not ErrorInfo.from_dict(old).once
