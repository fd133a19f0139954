from npuq.states import AttemptState
from scheduler.dispatch import due
from tests.unit.scheduler.snapshots import attempt

SENT = {"state": AttemptState.DISPATCHED}


def test_a_doorbell_rings_at_once_and_again_after_silence() -> None:
    """Not sent yet, or unanswered for too long; nothing in between."""
    new = attempt("new", "d1", **SENT, unanswered_seconds=None)
    fresh = attempt("fresh", "d2", **SENT, unanswered_seconds=19.0)
    silent = attempt("silent", "d3", **SENT, unanswered_seconds=21.0)
    assert due([new, fresh, silent], resend_seconds=20.0) == [new, silent]


def test_a_job_given_ahead_rings_once() -> None:
    """Its message waits in the hands of a worker that is busy; ringing again would be noise."""
    running = attempt("now", "d1")
    behind = attempt("next", "d1", **SENT, unanswered_seconds=500.0)
    assert due([running, behind], resend_seconds=20.0) == []
    unsent = attempt("next", "d1", **SENT, unanswered_seconds=None)
    assert due([running, unsent], resend_seconds=20.0) == [unsent]
