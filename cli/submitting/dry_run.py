"""The plan of a submission on paper: what the scheduler would make of it, as far as that is known here."""

from typing import TYPE_CHECKING

from cli.output import Format, show_many, tell
from cli.session import Session
from cli.submitting.chips import known_devices, warn_of_absences
from cli.submitting.request import Request, check_names, unregistered
from cli.words import counted
from npuq.errors import DatabaseError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from db.records import DatasetRecord, DeviceRecord, JobRecord, NewJob


def show_plan(session: Session, request: Request, output: Format) -> None:
    """Print the jobs of a request and send nothing; without a fleet whatever needs none to be planned.

    Raises:
        InvalidRequestError: it cannot be planned, or not yet; the message says what is missing.
        NotFoundError: an unknown recipe, or a dataset that is not registered.
        DatabaseError: there is a fleet, and it cannot be asked for the dataset.
    """
    from cli.views import plan_view
    from db.artifacts import digest_of
    from npuq.client import new_run_id
    from scheduler.plan import PlanWaitsError, plan_run
    from tasks import registry

    kind, path = request.source()
    spec = request.spec(new_run_id(), kind, digest_of(path), path.name)
    dataset = _dataset(session, request)
    fleet = known_devices(session)
    try:
        jobs = plan_run(spec, registry.get(spec.recipe, spec.recipe_options), dataset, fleet or ())
    except PlanWaitsError as error:
        raise InvalidRequestError(f"cannot plan this yet: {error}") from error
    reused = frozenset() if fleet is None else _reused(session, jobs, fleet)
    show_many(jobs, plan_view(reused), output)
    if fleet is None:
        tell("planned without a fleet, which nobody here can be asked about: see npuq status")
    else:
        warn_of_absences(request, fleet)
    done = f", {len(reused)} of them done already by equal work" if reused else ""
    tell(f"{counted(len(jobs), 'job')}{done}; nothing was sent")


def _reused(session: Session, jobs: "Sequence[NewJob]", fleet: "Sequence[DeviceRecord]") -> frozenset[str]:
    """Return the labels of the jobs whose work is there already, its outputs in the store."""
    from db import scheduling_queries
    from scheduler.reuse import foresee, is_stored
    from scheduler.toolchains import Toolchains

    store = session.client.store
    with session.read() as connection:

        def find_equal(key: str) -> "JobRecord | None":
            done = scheduling_queries.equal_succeeded(connection, key)
            return done if done is not None and is_stored(done, store.exists) else None

        return foresee(jobs, find_equal, Toolchains.of(fleet))


def _dataset(session: Session, request: Request) -> "DatasetRecord | None":
    try:
        return check_names(session, request)
    except DatabaseError as error:
        raise unregistered(request, error) from error
