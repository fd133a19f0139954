"""The way in: a submitted specification becomes a run, and a run becomes a graph of jobs."""

from typing import Final

from db import datasets, devices, runs
from db.engine import Database
from db.records import DatasetRecord, RunRecord
from db.types import storable
from npuq.config import Settings
from npuq.errors import DatabaseError, InvalidRequestError, NpuqError
from npuq.log import get_logger
from npuq.messages import parse_run_spec
from npuq.specs import RunSpec
from scheduler.plan import PlanWaitsError, plan_run
from tasks import registry

PATIENCE_SECONDS: Final = 60.0
log = get_logger(__name__)


def accept(database: Database, payload: object) -> bool:
    """Take one `npuq.submit` message; True when it made a new run.

    A message that is not a specification is dropped with a log line: whoever forged it has no right to more. A real
    submission that is lost here, because the database stays away, is still in its sender's outbox.
    """
    try:
        spec = parse_run_spec(payload)
    except InvalidRequestError as error:
        log.warning("submission_refused", reason=str(error))
        return False
    new = database.transact(lambda connection: runs.accept(connection, spec), patience_seconds=PATIENCE_SECONDS)
    log.info("run_accepted" if new else "run_known", run_id=spec.run_id, recipe=spec.recipe)
    return new


def plan_submitted(database: Database, settings: Settings) -> int:
    """Plan every submitted run; returns how many moved on."""
    with database.read() as connection:
        waiting = runs.submitted(connection)
    return sum(_plan_or_refuse(database, settings, run) for run in waiting)


def _plan_or_refuse(database: Database, settings: Settings, run: RunRecord) -> bool:
    """Plan one run; one that cannot even be tried is refused, so that it holds up nobody else."""
    try:
        return _plan(database, settings, run)
    except DatabaseError:
        raise
    except Exception as error:
        log.exception("planning_failed", run_id=run.run_id)
        reason = storable(f"it could not be planned: {type(error).__name__}: {error}"[:500])
        return database.transact(lambda connection: runs.refuse(connection, run.run_id, reason))


def _plan(database: Database, settings: Settings, run: RunRecord) -> bool:
    spec = RunSpec.model_validate(run.spec)
    with database.read() as connection:
        fleet = devices.find(connection, suspect_seconds=settings.timing.suspect_seconds)
        dataset: DatasetRecord | None = None
        if spec.dataset is not None:
            dataset = datasets.get(connection, spec.dataset)
    try:
        graph = plan_run(spec, registry.get(spec.recipe, spec.recipe_options), dataset, fleet)
    except PlanWaitsError as waits:
        reason = str(waits)
        database.transact(lambda connection: runs.note_reason(connection, run.run_id, reason))
        return False
    except NpuqError as error:  # what cannot be planned must not keep the others waiting
        refusal = str(error)
        log.warning("run_refused", run_id=run.run_id, reason=refusal)
        return database.transact(lambda connection: runs.refuse(connection, run.run_id, refusal))
    log.info("run_planned", run_id=run.run_id, jobs=len(graph))
    return database.transact(lambda connection: runs.plan(connection, run.run_id, graph))
