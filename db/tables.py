"""The tables, as typed models. What they refuse beyond types and keys (triggers) is in the first migration.

`jobs` and `attempts` carry the state machine; `results` and `metrics` are the history and never change.
"""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from db.types import JsonType, UtcDateTime, enum_type
from npuq.states import AttemptState, DeviceKind, DeviceState, JobKind, JobState, Quality, RunState

Id = String(64)
Digest = String(64)
BigId = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER autoincrements there

_OPEN_JOBS = "state IN ('waiting', 'queued', 'dispatched', 'running')"
_FINAL_JOBS = "state IN ('succeeded', 'failed', 'cancelled', 'skipped', 'held')"
_ACTIVE_ATTEMPTS = "state IN ('dispatched', 'running')"
_OPEN_RUNS = "state IN ('submitted', 'active')"

# What a statement has to say, word for word, for SQLite to use the partial indexes of the few rows that are not final:
# it does not conclude that `state = 'queued'` is among the four, and would go through the history of years.
# Whoever asks for `running` attempts needs no such words: their own index has one state only.
JOB_IS_OPEN = text(f"jobs.{_OPEN_JOBS}")
ATTEMPT_IS_ACTIVE = text(f"attempts.{_ACTIVE_ATTEMPTS}")
RUN_IS_OPEN = text(f"runs.{_OPEN_RUNS}")


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    condition = text(where)
    return Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


class Base(DeclarativeBase):
    """All tables; every constraint has a predictable name, so that migrations can refer to it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime(),
        dict[str, Any]: JsonType,
        list[str]: JsonType,
        JobKind: enum_type(JobKind),
        JobState: enum_type(JobState),
        AttemptState: enum_type(AttemptState),
        RunState: enum_type(RunState),
        DeviceKind: enum_type(DeviceKind),
        DeviceState: enum_type(DeviceState),
        Quality: enum_type(Quality),
    }


class Cluster(Base):
    """One row: who this database is."""

    __tablename__ = "cluster"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cluster_id: Mapped[str] = mapped_column(Id)
    epoch: Mapped[int] = mapped_column(default=1)
    """Part of owner tokens; a restored database gets a new one, which fences everything that ran before."""
    created_at: Mapped[datetime]


class Leader(Base):
    """Which scheduler leads; an optimisation, safety never depends on it."""

    __tablename__ = "leader"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner: Mapped[str] = mapped_column(Id)
    expires_at: Mapped[datetime]


class Host(Base):
    """A machine that runs a launcher."""

    __tablename__ = "hosts"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    heartbeat_at: Mapped[datetime]
    facts: Mapped[dict[str, Any]]
    """Versions and tools: npuq, driver, CANN, fingerprint of the toolchain, whether it is emulated."""


class Device(Base):
    """One chip, or one slot of a host worker."""

    __tablename__ = "devices"
    __table_args__ = (
        CheckConstraint("(kind = 'npu') = (logic_id IS NOT NULL)", name="npu_has_logic_id"),
        Index(None, "host_id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    host_id: Mapped[str] = mapped_column(Id, ForeignKey("hosts.id"))
    kind: Mapped[DeviceKind]
    identity: Mapped[str] = mapped_column(String(200))
    npu_id: Mapped[int | None]
    chip_id: Mapped[int | None]
    logic_id: Mapped[int | None]
    phy_id: Mapped[int | None]
    """N of `/dev/davinciN`, by which a container is given the chip; None: not shown."""
    name: Mapped[str] = mapped_column(String(64))
    soc_version: Mapped[str | None] = mapped_column(String(40))
    toolchain: Mapped[str] = mapped_column(String(100), server_default="")
    emulated: Mapped[bool]
    health: Mapped[str] = mapped_column(String(16))
    state: Mapped[DeviceState]
    state_reason: Mapped[str] = mapped_column(Text, server_default="")
    state_cause: Mapped[str] = mapped_column(String(16), server_default="")
    """One of `DeviceCause`; "" in rows older than this column."""
    state_at: Mapped[datetime]
    memory_total_mib: Mapped[int | None]
    memory_baseline_mib: Mapped[int | None]
    loaded: Mapped[list[str]]
    """Digests of the models its process keeps loaded."""
    restart_asked_at: Mapped[datetime | None]
    """The scheduler saw that its worker does not answer; the launcher restarts it and clears this."""
    seen_at: Mapped[datetime]


class DeviceEvent(Base):
    """A move of a device, with its reason. Only added to, by `db/device_events.py`."""

    __tablename__ = "device_events"
    __table_args__ = (Index(None, "device_id", "id"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    device_id: Mapped[str] = mapped_column(Id, ForeignKey("devices.id"))
    at: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(16))
    cause: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)


class Dataset(Base):
    """A registered dataset."""

    __tablename__ = "datasets"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    format: Mapped[str] = mapped_column(String(16))
    root: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(Digest)
    samples: Mapped[int]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """Of all its files; None in rows older than this column."""
    in_store: Mapped[bool] = mapped_column(server_default=false())
    """Its files are kept in the store; then `root` is only where they came from."""
    notes: Mapped[list[str]] = mapped_column(server_default="[]")
    """What was odd but harmless when it was registered."""
    added_at: Mapped[datetime]


class DatasetFolder(Base):
    """Where a dataset lies on a host, when that is not where it lies on the others."""

    __tablename__ = "dataset_folders"

    dataset: Mapped[str] = mapped_column(String(100), ForeignKey("datasets.name", ondelete="CASCADE"), primary_key=True)
    host: Mapped[str] = mapped_column(Id, primary_key=True)
    """Of `hosts`, or one that has yet to join."""
    root: Mapped[str] = mapped_column(Text)


class Artifact(Base):
    """Bytes in the store; the row appears only after the file is durable."""

    __tablename__ = "artifacts"
    __table_args__ = (CheckConstraint("size_bytes >= 0", name="size"),)

    digest: Mapped[str] = mapped_column(Digest, primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]


class Run(Base):
    """What a person submitted. The id is made by the client: it is the submission key."""

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(f"(finished_at IS NULL) = ({_OPEN_RUNS})", name="finished"),
        _partial("ix_runs_open", "created_at", where=_OPEN_RUNS),
        Index(None, "created_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    recipe: Mapped[str] = mapped_column(String(100))
    spec: Mapped[dict[str, Any]]
    state: Mapped[RunState]
    reason: Mapped[str] = mapped_column(Text, server_default="")
    """Why it is where it is: what planning waits for, or why it could not be planned."""
    submitter: Mapped[str] = mapped_column(String(200))
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    submitted_at: Mapped[datetime]
    """By the client's clock."""
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class Job(Base):
    """One step of a run. Only `db/jobs.py` writes `state`."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("run_id", "label"),
        CheckConstraint(f"(finished_at IS NOT NULL) = ({_FINAL_JOBS})", name="final_finished"),
        CheckConstraint("attempt >= 0", name="attempt"),
        CheckConstraint("reused_from IS NULL OR state = 'succeeded'", name="reused_succeeded"),
        CheckConstraint("state NOT IN ('failed', 'held') OR error_code IS NOT NULL", name="failed_has_error"),
        _partial("ix_jobs_open", "state", "priority", "created_at", where=_OPEN_JOBS),
        _partial("ix_jobs_done", "finished_at", where="state = 'succeeded' AND reused_from IS NULL"),
        _partial("ix_jobs_content_key", "content_key", "state", where="content_key IS NOT NULL"),
        _partial("ix_jobs_lead_id", "lead_id", where="lead_id IS NOT NULL"),
        Index(None, "run_id", "ordinal"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    run_id: Mapped[str] = mapped_column(Id, ForeignKey("runs.id"))
    ordinal: Mapped[int]
    """Its place in the run's plan."""
    label: Mapped[str] = mapped_column(String(200))
    """What it is for a person, for example `infer bs8 fp16 2/5`; unique in the run."""
    kind: Mapped[JobKind]
    recipe: Mapped[str] = mapped_column(String(100))
    recipe_version: Mapped[int]
    params: Mapped[dict[str, Any]]
    inputs: Mapped[dict[str, Any]]
    """role -> digests, for inputs that were uploaded; the others come through `job_inputs`."""
    soc_version: Mapped[str | None] = mapped_column(String(40))
    """The chip this job needs; None for host jobs."""
    toolchain: Mapped[str | None] = mapped_column(String(100))
    """The toolchain it needs; None: any."""
    pinned_device: Mapped[str | None] = mapped_column(Id)
    """The device that it runs on and nowhere else; None: any that can. No part of the content key."""
    lead_id: Mapped[str | None] = mapped_column(Id, ForeignKey("jobs.id"))
    """The leading one of the jobs that run on all chips of a card at once, its own id for that one; None: it runs
    alone."""
    content_key: Mapped[str | None] = mapped_column(Digest)
    """Known as soon as its inputs are."""
    fresh: Mapped[bool] = mapped_column(default=False)
    """Never reuse an equal job's outputs."""
    priority: Mapped[int] = mapped_column(default=0)
    state: Mapped[JobState]
    attempt: Mapped[int] = mapped_column(default=0)
    """The fence: number of the newest attempt."""
    max_attempts: Mapped[int] = mapped_column(default=3)
    failures: Mapped[int] = mapped_column(default=0)
    """Failures of its own."""
    losses: Mapped[int] = mapped_column(default=0)
    """Attempts that infrastructure took."""
    not_before: Mapped[datetime | None]
    avoid_devices: Mapped[list[str]]
    """Devices that failed it, not to be tried again while there are others."""
    refused_hosts: Mapped[list[str]]
    """Hosts that cannot run it at all (a folder or a tool is missing there)."""
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    device_id: Mapped[str | None] = mapped_column(Id, ForeignKey("devices.id"))
    """Of the newest attempt."""
    reason: Mapped[str] = mapped_column(Text, server_default="")
    """Why it is not running yet, in words."""
    outputs: Mapped[dict[str, Any]]
    """role -> digests."""
    facts: Mapped[dict[str, Any]]
    """What the step said of itself: command line, versions, counts, times."""
    reused_from: Mapped[str | None] = mapped_column(Id, ForeignKey("jobs.id"))
    """The job whose outcome is this one's: an equal one, or the one that it accompanied."""
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_blame: Mapped[str | None] = mapped_column(String(16))
    error_message: Mapped[str | None] = mapped_column(Text)
    error_detail: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    queued_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    """When the newest attempt was claimed."""
    finished_at: Mapped[datetime | None]


class JobInput(Base):
    """An edge of the graph: `job_id` takes the outputs of `parent_id` in the role `role`."""

    __tablename__ = "job_inputs"
    __table_args__ = (Index(None, "parent_id"),)

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id"), primary_key=True)
    parent_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id"), primary_key=True)
    role: Mapped[str] = mapped_column(String(32))
    position: Mapped[int]


class JobMove(Base):
    """A legal move of a job; the trigger on `jobs` refuses every other."""

    __tablename__ = "job_moves"

    from_state: Mapped[str] = mapped_column(String(16), primary_key=True)
    to_state: Mapped[str] = mapped_column(String(16), primary_key=True)


class Attempt(Base):
    """One try of a job on one device."""

    __tablename__ = "attempts"
    __table_args__ = (
        CheckConstraint(
            "(state = 'running') = (lease_until IS NOT NULL) AND (state <> 'running' OR owner IS NOT NULL)",
            name="running_leased",
        ),
        CheckConstraint(f"(finished_at IS NULL) = ({_ACTIVE_ATTEMPTS})", name="finished"),
        CheckConstraint("number >= 1", name="number"),
        _partial("uq_attempts_active_job", "job_id", where=_ACTIVE_ATTEMPTS, unique=True),
        _partial("uq_attempts_running_device", "device_id", where="state = 'running'", unique=True),
        _partial("ix_attempts_active", "device_id", "state", where=_ACTIVE_ATTEMPTS),
        Index(None, "device_id", "created_at"),
    )

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    device_id: Mapped[str] = mapped_column(Id, ForeignKey("devices.id"))
    state: Mapped[AttemptState]
    owner: Mapped[str | None] = mapped_column(Id)
    """Random token of the worker that claimed it; kept when it ends."""
    lease_until: Mapped[datetime | None]
    beats: Mapped[int] = mapped_column(default=0)
    """Grows with every beat: the second witness."""
    publishes: Mapped[int] = mapped_column(default=0)
    published_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    progress: Mapped[dict[str, Any] | None] = mapped_column(JsonType)
    """done, total, unit, and what the chip does."""
    log_digest: Mapped[str | None] = mapped_column(Digest)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_blame: Mapped[str | None] = mapped_column(String(16))
    error_message: Mapped[str | None] = mapped_column(Text)


class LogChunk(Base):
    """A piece of the log of a running attempt; moved to the store when it ends."""

    __tablename__ = "log_chunks"
    __table_args__ = (ForeignKeyConstraint(["job_id", "attempt"], ["attempts.job_id", "attempts.number"]),)

    job_id: Mapped[str] = mapped_column(Id, primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(Text)


class JobEvent(Base):
    """Every move of every job, written by a trigger, so that no move can be missing."""

    __tablename__ = "job_events"
    __table_args__ = (Index(None, "job_id", "id"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(Id)
    attempt: Mapped[int]
    from_state: Mapped[str | None] = mapped_column(String(16))
    to_state: Mapped[str] = mapped_column(String(16))
    device_id: Mapped[str | None] = mapped_column(Id)
    at: Mapped[datetime]


class Result(Base):
    """One measured configuration. Never changed, never deleted."""

    __tablename__ = "results"
    __table_args__ = (
        UniqueConstraint("job_id"),
        ForeignKeyConstraint(["job_id", "attempt"], ["attempts.job_id", "attempts.number"]),
        CheckConstraint("kind IN ('accuracy', 'performance')", name="kind"),
        Index(None, "recipe", "soc_version", "batch_size", "created_at"),
        Index(None, "created_at"),
        Index(None, "run_id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    run_id: Mapped[str] = mapped_column(Id, ForeignKey("runs.id"))
    job_id: Mapped[str] = mapped_column(Id)
    attempt: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    recipe: Mapped[str] = mapped_column(String(100))
    recipe_version: Mapped[int]
    dataset: Mapped[str | None] = mapped_column(String(100))
    dataset_digest: Mapped[str | None] = mapped_column(Digest)
    samples: Mapped[int | None]
    dataset_samples: Mapped[int | None]
    """Images of the whole dataset; None in rows older than this column, and where no dataset is."""
    images_digest: Mapped[str | None] = mapped_column(Digest)
    """List of the images that were scored; None: the first `samples`."""
    scope: Mapped[str] = mapped_column(String(8), server_default="chip")
    """Whether a throughput is one chip's or a whole card's (`npuq.states.Scope`)."""
    soc_version: Mapped[str | None] = mapped_column(String(40))
    device_id: Mapped[str | None] = mapped_column(Id, ForeignKey("devices.id"))
    """The chip; None when several took part (see `facts`)."""
    emulated: Mapped[bool]
    batch_size: Mapped[int]
    precision: Mapped[str] = mapped_column(String(32))
    quality: Mapped[Quality]
    om_digest: Mapped[str | None] = mapped_column(Digest)
    toolchain: Mapped[str] = mapped_column(String(100), server_default="")
    facts: Mapped[dict[str, Any]]
    """Provenance: versions, protocol, the chips, the command lines."""
    created_at: Mapped[datetime]


class Metric(Base):
    """A named number of a result."""

    __tablename__ = "metrics"

    result_id: Mapped[str] = mapped_column(Id, ForeignKey("results.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[float] = mapped_column(Float(53))
    unit: Mapped[str] = mapped_column(String(16))
