"""Submissions in the outbox as runs, so that who lists runs does not miss what was just submitted. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from db.records import RunRecord
from npuq.specs import RunSpec
from npuq.states import RunState

REASON: Final = "waits in the outbox: the fleet has not taken it yet"


def as_run(spec: RunSpec) -> RunRecord:
    """Return the run that a submission will be; what the fleet's clock will say is said by this machine's."""
    return RunRecord(
        run_id=spec.run_id,
        name=spec.name,
        recipe=spec.recipe,
        state=RunState.SUBMITTED,
        reason=REASON,
        submitter=spec.submitter,
        spec=spec.model_dump(mode="json"),
        cancel_requested=False,
        submitted_at=spec.submitted_at,
        created_at=spec.submitted_at,
        finished_at=None,
    )


def with_waiting(found: Sequence[RunRecord], waiting: Iterable[RunSpec], *, recipe: str | None) -> list[RunRecord]:
    """Return runs together with the submissions that wait, those of a recipe only when it is given, newest first."""
    known = {run.run_id for run in found}
    runs = [as_run(spec) for spec in waiting if spec.run_id not in known and recipe in {None, spec.recipe}]
    return sorted([*found, *runs], key=lambda run: run.created_at, reverse=True)
