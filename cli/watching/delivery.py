"""A submission that still waits in the outbox: says why, and keeps sending it until the fleet knows the run."""

import time
from datetime import UTC, datetime
from typing import Final

from cli.output import tell
from cli.session import Session
from cli.words import ago
from npuq.client import NOBODY_LISTENS, Submission
from npuq.specs import RunSpec

POLL_SECONDS: Final = 0.5


def deliver(session: Session, spec: RunSpec, deadline: float | None = None) -> None:
    """Send a submission until the fleet knows the run; tells at once, and whenever it changes, why it does not.

    Raises:
        TimeoutError: the deadline (monotonic seconds) passed first.
    """
    told = ""
    while not (submission := session.client.deliver(spec)).seen:
        if submission.problem != told:
            tell(explain(submission, spec, embedded=session.settings.broker_url is None, now=datetime.now(UTC)))
            if not told:
                tell("  it is sent again until then; Ctrl-C lets go of it, and it stays there")
            told = submission.problem
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError(f"run {spec.run_id} still waits in the outbox")
        time.sleep(POLL_SECONDS)
    if told:
        tell(f"the fleet has taken run {spec.run_id}")


def explain(submission: Submission, spec: RunSpec, *, embedded: bool, now: datetime) -> str:
    """Return since when a submission waits, why, and what to do. Pure.

    Args:
        submission: what became of it so far.
        spec: what was submitted.
        embedded: the broker is that of this home.
        now: the moment that its age is counted from.
    """
    if embedded:
        advice = "start the fleet with: npuq up"
    elif submission.problem == NOBODY_LISTENS:
        advice = "start a scheduler where the fleet's services run: npuq scheduler"
    else:
        advice = "check broker_url and database_url, and that both services answer: npuq doctor"
    return (
        f"run {spec.run_id} waits in the outbox since its submission {ago(spec.submitted_at, now)}: "
        f"{submission.problem}\n  {advice}"
    )
