"""What is left of a run of chaos, as plain values: the rows, the emulator's own diary, and what the store holds.

Reads only; `tests.chaos.checker` judges.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final

from sqlalchemy import Connection, select

from db.artifacts import ArtifactStore
from db.engine import Database
from db.tables import Attempt, Device, Job, JobEvent, Result, Run
from npuq.errors import ArtifactError
from npuq.states import AttemptState, JobKind, JobState, RunState

_RUN_EVENTS: Final = frozenset({"run_start", "run_end"})


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A row of `runs`."""

    run_id: str
    state: RunState


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """A row of `jobs`, as far as it is judged."""

    job_id: str
    run_id: str
    kind: JobKind
    state: JobState
    attempt: int
    reused: bool = False
    digests: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class AttemptRow:
    """A row of `attempts`."""

    job_id: str
    number: int
    device_id: str
    state: AttemptState
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    log_digest: str | None = None


@dataclass(frozen=True, kw_only=True)
class EventRow:
    """A row of `job_events`, in the order of their ids."""

    job_id: str
    attempt: int
    from_state: str | None
    to_state: str


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """A row of `results`."""

    job_id: str
    attempt: int
    device_id: str | None


@dataclass(frozen=True, kw_only=True)
class Execution:
    """One `run` that the emulator saw. Times are its own monotonic seconds.

    Attributes:
        pid: the process that owned the chip.
        logic_id: the chip.
        work: `(job id, attempt)` by the folder it ran in; None when the folder was gone.
        began: when.
        ended: when; None when the process died in the middle.
        ok: whether it ended well.
    """

    pid: int
    logic_id: int
    work: tuple[str, int] | None
    began: float
    ended: float | None = None
    ok: bool = False


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that the checker looks at.

    Attributes:
        submitted: run id -> benchmark jobs that it must have.
        runs, jobs, attempts, events, results: the rows.
        logic_ids: device id of each chip -> its logic id.
        executions: the diary's runs.
        owners: logic id -> pid of every entry of the diary, in order.
        intact: digests that the store holds with the right bytes.
        cancelled: jobs that a person cancelled.
        conversions: (job id, attempt) of every start of ATC, in order.
    """

    submitted: Mapping[str, int]
    runs: Sequence[RunRow]
    jobs: Sequence[JobRow]
    attempts: Sequence[AttemptRow]
    events: Sequence[EventRow]
    results: Sequence[ResultRow]
    logic_ids: Mapping[str, int] = field(default_factory=dict)
    executions: Sequence[Execution] = ()
    owners: Mapping[int, Sequence[int]] = field(default_factory=dict)
    intact: frozenset[str] = frozenset()
    cancelled: frozenset[str] = frozenset()
    conversions: Sequence[tuple[str, int] | None] = ()


def read_evidence(
    database: Database,
    store: ArtifactStore,
    diary: Sequence[Mapping[str, Any]],
    submitted: Mapping[str, int],
    cancelled: frozenset[str],
) -> Evidence:
    """Return the evidence of a fleet that has come to rest.

    Args:
        database: its database.
        store: its artifacts.
        diary: entries of the emulator's diary, oldest first.
        submitted: run id -> benchmark jobs.
        cancelled: jobs that a person cancelled.
    """
    with database.read() as connection:
        jobs = _jobs(connection)
        attempts = _attempts(connection)
        chips = connection.execute(select(Device.id, Device.logic_id).where(Device.logic_id.is_not(None)))
        return Evidence(
            submitted=submitted,
            runs=[RunRow(run_id=row.id, state=row.state) for row in connection.execute(select(Run.id, Run.state))],
            jobs=jobs,
            attempts=attempts,
            events=_events(connection),
            results=_results(connection),
            logic_ids={row.id: row.logic_id for row in chips},
            executions=executions(diary),
            owners=owners(diary),
            intact=_intact(store, referenced(jobs, attempts)),
            cancelled=cancelled,
            conversions=[_work(entry["cwd"]) for entry in diary if entry["event"] == "atc_start"],
        )


def referenced(jobs: Iterable[JobRow], attempts: Iterable[AttemptRow]) -> set[str]:
    """Return every digest that a row names."""
    digests = {digest for job in jobs for digest in job.digests}
    return digests | {attempt.log_digest for attempt in attempts if attempt.log_digest is not None}


def executions(diary: Sequence[Mapping[str, Any]]) -> list[Execution]:
    """Return the runs of a diary in the order in which they began; a process does one at a time."""
    found: list[Execution] = []
    open_runs: dict[int, Execution] = {}
    for entry in diary:
        if entry["event"] not in _RUN_EVENTS:
            continue
        begun = open_runs.pop(entry["pid"], None)
        if begun is not None:
            ended = entry["monotonic"] if entry["event"] == "run_end" else None
            found.append(
                Execution(
                    pid=begun.pid,
                    logic_id=begun.logic_id,
                    work=begun.work,
                    began=begun.began,
                    ended=ended,
                    ok=ended is not None and entry["ok"],
                )
            )
        if entry["event"] == "run_start":
            work = _work(entry["cwd"])
            open_runs[entry["pid"]] = Execution(
                pid=entry["pid"], logic_id=entry["device"], work=work, began=entry["monotonic"]
            )
    return sorted([*found, *open_runs.values()], key=lambda execution: execution.began)


def owners(diary: Sequence[Mapping[str, Any]]) -> dict[int, list[int]]:
    """Return logic id -> pids in the order of their entries."""
    found: dict[int, list[int]] = {}
    for entry in diary:
        if entry["device"] is not None:
            found.setdefault(entry["device"], []).append(entry["pid"])
    return found


def _work(folder: str | None) -> tuple[str, int] | None:
    """Return (job id, attempt) of a step's folder, `…/<job id>.<attempt>/step`."""
    if folder is None:
        return None
    job_id, _, number = PurePosixPath(folder).parent.name.partition(".")
    return (job_id, int(number)) if number.isdigit() else None


def _jobs(connection: Connection) -> list[JobRow]:
    columns = (Job.id, Job.run_id, Job.kind, Job.state, Job.attempt, Job.reused_from, Job.outputs)
    return [
        JobRow(
            job_id=row.id,
            run_id=row.run_id,
            kind=JobKind(row.kind),
            state=JobState(row.state),
            attempt=row.attempt,
            reused=row.reused_from is not None,
            digests=frozenset(digest for digests in row.outputs.values() for digest in digests),
        )
        for row in connection.execute(select(*columns))
    ]


def _attempts(connection: Connection) -> list[AttemptRow]:
    names = [name for name in AttemptRow.__dataclass_fields__ if name != "state"]
    rows = connection.execute(select(Attempt.__table__).order_by(Attempt.job_id, Attempt.number))
    return [AttemptRow(state=AttemptState(row.state), **{name: getattr(row, name) for name in names}) for row in rows]


def _events(connection: Connection) -> list[EventRow]:
    rows = connection.execute(select(JobEvent.__table__).order_by(JobEvent.id))
    return [
        EventRow(job_id=row.job_id, attempt=row.attempt, from_state=row.from_state, to_state=row.to_state)
        for row in rows
    ]


def _results(connection: Connection) -> list[ResultRow]:
    rows = connection.execute(select(Result.job_id, Result.attempt, Result.device_id))
    return [ResultRow(job_id=row.job_id, attempt=row.attempt, device_id=row.device_id) for row in rows]


def _intact(store: ArtifactStore, digests: Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    for digest in digests:
        try:
            store.fetch(digest)
        except ArtifactError:
            continue  # its absence from `intact` is the finding
        found.add(digest)
    return frozenset(found)


def count_events(logs: Path, names: Iterable[str]) -> dict[str, int]:
    """Return how often each log event occurs in the JSON lines of a folder's `*.log` files."""
    counts = dict.fromkeys(names, 0)
    for path in sorted(logs.glob("*.log")):
        for line in path.read_text("utf-8", errors="replace").splitlines():
            for name in counts:
                counts[name] += f'"event": "{name}"' in line
    return counts
