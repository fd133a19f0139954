"""What succeeded jobs made and the store has lost: found, and made again by twins of those jobs.

A succeeded job stays what it is, its result in the history with it. Its twin does the same work in the same run, and
whoever still waits for the lost bytes takes the twin's. What is queued already finds them lost, and is then retried.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from sqlalchemy import Connection, insert, or_, select, update

from db import job_queries
from db.records import JobRecord
from db.tables import Job, JobInput, Run
from db.types import batched, db_now
from npuq.errors import ArtifactError
from npuq.specs import derived_id
from npuq.states import JobState

#: What a twin has of its model; all else is as in a job that has just been planned.
_SHARED: Final = (
    *("run_id", "kind", "recipe", "recipe_version", "params", "inputs", "soc_version", "pinned_device", "fresh"),
    *("priority", "max_attempts"),
)
#: Jobs that take what they need when they are queued (again); the others have what they were queued with.
_UNQUEUED: Final = (JobState.WAITING, JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED, JobState.HELD)
_OPEN: Final = select(Job.id).where(Job.state.in_(_UNQUEUED))


@dataclass(kw_only=True)
class Lost:
    """What the store lacks.

    Attributes:
        made: the jobs that made it, each after one that needs it; they can make it again.
        uploaded: (role, digest) of what a person uploaded and has to upload again.
    """

    made: list[JobRecord] = field(default_factory=list)
    uploaded: list[tuple[str, str]] = field(default_factory=list)


def find(connection: Connection, jobs: Sequence[JobRecord], is_stored: Callable[[str], bool]) -> Lost:
    """Return what jobs need and the store lacks, and what making that again needs.

    Args:
        connection: only reads.
        jobs: of one run; those that an artifact stopped are looked at, the others have what they need.
        is_stored: digest -> whether the store has it.
    """
    lost = Lost()
    seen: set[str] = set()
    todo = [job for job in jobs if job.error is not None and job.error.code == ArtifactError.code]
    while todo:
        job = todo.pop()
        lost.uploaded += [
            (role, digest) for role, digests in job.inputs.items() for digest in digests if not is_stored(digest)
        ]
        for role, parent in job_queries.parents(connection, job.job_id):
            gone = not all(map(is_stored, parent.outputs.get(role, ())))
            if parent.job_id not in seen and parent.state is JobState.SUCCEEDED and gone:
                seen.add(parent.job_id)
                lost.made.append(parent)
                todo.append(parent)
    return lost


def make_again(connection: Connection, run_id: str, lost: Lost) -> list[str]:
    """Give each job whose outputs are lost a waiting twin; returns the twins' labels. A second time there are none.

    To be followed, in the same transaction, by the retry of the jobs that they were lost to.
    """
    # As in a retry: a scheduler that settles the run at the same moment must see the new jobs, or wait.
    connection.execute(select(Run.id).where(Run.id == run_id).with_for_update())
    twins: dict[str, tuple[str, str]] = {}
    for job in lost.made:
        if _is_needed(connection, job, twins):
            twins[job.job_id] = _insert_twin(connection, job)
    for model_id, (twin_id, _label) in twins.items():  # only now, so that twins take from twins
        takers = select(JobInput.job_id).where(JobInput.parent_id == model_id)
        # Locked, so that the scheduler does not queue one of them as this gives it an input that is not there yet.
        held = connection.execute(_OPEN.where(Job.id.in_(takers)).order_by(Job.id).with_for_update()).scalars().all()
        for some in batched(held):
            connection.execute(
                update(JobInput)
                .where(JobInput.parent_id == model_id, JobInput.job_id.in_(some))
                .values(parent_id=twin_id)
            )
    return [label for _twin_id, label in twins.values()]


def _is_needed(connection: Connection, job: JobRecord, twinned: Collection[str]) -> bool:
    """Tell whether somebody still waits for what a job made, or will: a job that is being made again."""
    needs = or_(JobInput.job_id.in_(_OPEN), JobInput.job_id.in_(twinned))
    query = select(JobInput.job_id).where(JobInput.parent_id == job.job_id, needs).limit(1)
    return connection.execute(query).first() is not None


def _insert_twin(connection: Connection, job: JobRecord) -> tuple[str, str]:
    """Insert the twin of a job, with its model's inputs; returns its id and label."""
    of_run = connection.execute(select(Job.label, Job.ordinal).where(Job.run_id == job.run_id)).all()
    labels = {row.label for row in of_run}
    label = next(name for name in (f"{job.label} (made again {n})" for n in count(1)) if name not in labels)
    twin_id = derived_id(job.run_id, label)
    connection.execute(
        insert(Job).values(
            id=twin_id,
            label=label,
            ordinal=max(row.ordinal for row in of_run) + 1,
            state=JobState.WAITING,
            created_at=db_now(),
            avoid_devices=[],
            refused_hosts=[],
            outputs={},
            facts={},
            **{name: getattr(job, name) for name in _SHARED},
        )
    )
    edges = connection.execute(select(JobInput.__table__).where(JobInput.job_id == job.job_id)).mappings().all()
    if edges:
        connection.execute(insert(JobInput), [{**edge, "job_id": twin_id} for edge in edges])
    return twin_id, label
