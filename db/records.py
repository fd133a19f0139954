"""What the database gives out and takes in: frozen values. No ORM object leaves `db/`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from npuq.errors import ErrorInfo
from npuq.states import AttemptState, DeviceCause, DeviceKind, DeviceState, JobKind, JobState, Quality, RunState, Scope


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run, with how many of its jobs stand where."""

    run_id: str
    name: str
    recipe: str
    state: RunState
    reason: str
    submitter: str
    spec: Mapping[str, Any]
    cancel_requested: bool
    submitted_at: datetime
    created_at: datetime
    finished_at: datetime | None
    jobs: Mapping[JobState, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A planned job, before it is a row. `parents` is role -> labels of the jobs whose outputs it takes."""

    job_id: str
    label: str
    kind: JobKind
    recipe: str
    recipe_version: int
    params: Mapping[str, Any]
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    soc_version: str | None = None
    pinned_device: str | None = None
    lead_id: str | None = None
    fresh: bool = False
    priority: int = 0
    max_attempts: int = 3


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A job as it stands.

    `pinned_device` is the only one that it may run on. `lead_id` is the leading one of the jobs that run on all chips
    of a card at once: its own id for that one, None for a job that runs alone.
    """

    job_id: str
    run_id: str
    ordinal: int
    label: str
    kind: JobKind
    recipe: str
    recipe_version: int
    params: Mapping[str, Any]
    inputs: Mapping[str, Any]
    soc_version: str | None
    toolchain: str | None
    content_key: str | None
    fresh: bool
    priority: int
    state: JobState
    attempt: int
    max_attempts: int
    failures: int
    losses: int
    not_before: datetime | None
    avoid_devices: tuple[str, ...]
    refused_hosts: tuple[str, ...]
    cancel_requested: bool
    device_id: str | None
    reason: str
    outputs: Mapping[str, Any]
    facts: Mapping[str, Any]
    reused_from: str | None
    error: ErrorInfo | None
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    pinned_device: str | None = None
    lead_id: str | None = None

    @property
    def leads(self) -> bool:
        """Return whether it leads the jobs that run on all chips of a card at once."""
        return self.lead_id == self.job_id

    @property
    def accompanies(self) -> bool:
        """Return whether it runs for the sake of another job, on another chip of the card."""
        return self.lead_id is not None and self.lead_id != self.job_id


@dataclass(frozen=True, kw_only=True)
class AttemptRecord:
    """One try of a job."""

    job_id: str
    number: int
    device_id: str
    state: AttemptState
    beats: int
    publishes: int
    published_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: Mapping[str, Any] | None
    log_digest: str | None
    error_code: str | None
    error_message: str | None


@dataclass(frozen=True, kw_only=True)
class DeviceRecord:
    """A chip or a host slot.

    `state` is what is shown: `busy` and `lost` for a silent host are derived, and so is `forgotten`: not seen by its
    host for so long, by the database's clock, that nothing should wait for it.
    """

    device_id: str
    host: str
    kind: DeviceKind
    identity: str
    npu_id: int | None
    chip_id: int | None
    logic_id: int | None
    name: str
    soc_version: str | None
    toolchain: str
    emulated: bool
    health: str
    state: DeviceState
    state_reason: str
    state_at: datetime
    memory_total_mib: int | None
    memory_baseline_mib: int | None
    loaded: tuple[str, ...]
    restart_asked_at: datetime | None
    seen_at: datetime
    forgotten: bool = False
    phy_id: int | None = None
    state_cause: str = ""

    @property
    def toolchains(self) -> tuple[str, ...]:
        """Return the fingerprints of its toolchains, the default one first; a host may have several side by side."""
        return tuple(self.toolchain.split())


@dataclass(frozen=True, kw_only=True)
class NewDevice:
    """What a launcher says of a device at registration."""

    device_id: str
    kind: DeviceKind
    identity: str
    name: str
    health: str
    emulated: bool
    toolchain: str = ""
    npu_id: int | None = None
    chip_id: int | None = None
    logic_id: int | None = None
    phy_id: int | None = None
    soc_version: str | None = None
    memory_total_mib: int | None = None


@dataclass(frozen=True, kw_only=True)
class DeviceEventRecord:
    """A move of a device, and why. A higher `event_id` is newer."""

    event_id: int
    device_id: str
    at: datetime
    state: DeviceState
    cause: DeviceCause
    reason: str


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """A registered dataset.

    Attributes:
        root: its folder on every host that has none of its own; of a dataset in the store: where it came from.
        digest: of its manifest.
        samples: number of images.
        in_store: its files are kept in the store, and fetched by hosts that have no folder of their own.
        size_bytes: of all its files; None: registered before that was noted.
        notes: what was odd but harmless when it was registered.
        folders: host -> its folder there, for the hosts that have one of their own.
    """

    name: str
    format: str
    root: str
    digest: str
    samples: int
    added_at: datetime
    in_store: bool = False
    size_bytes: int | None = None
    notes: tuple[str, ...] = ()
    folders: Mapping[str, str] = field(default_factory=dict)

    def folder_on(self, host: str) -> str | None:
        """Return the folder in which a host should have it; None: it has to come from the store."""
        return self.folders.get(host, None if self.in_store else self.root)


@dataclass(frozen=True, kw_only=True)
class NewArtifact:
    """A file that is durable in the store."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class NewResult:
    """A measured configuration, to be written with the success of its attempt.

    `samples` of `dataset_samples` were scored: the first ones, or those of the list `images_digest`. `metrics`: name ->
    (value, unit).
    """

    kind: str
    dataset: str | None
    dataset_digest: str | None
    samples: int | None
    soc_version: str | None
    device_id: str | None
    emulated: bool
    batch_size: int
    precision: str
    quality: Quality
    om_digest: str | None
    toolchain: str
    facts: Mapping[str, Any]
    metrics: Mapping[str, tuple[float, str]]
    dataset_samples: int | None = None
    images_digest: str | None = None
    scope: str = Scope.CHIP


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a succeeded attempt leaves: role -> digests, provenance, rows for the store's new files, its result."""

    outputs: Mapping[str, Sequence[str]]
    facts: Mapping[str, Any]
    artifacts: Sequence[NewArtifact]
    result: NewResult | None
    log_digest: str | None


@dataclass(frozen=True, kw_only=True)
class ResultRecord:
    """A measured configuration of the history.

    `samples` of `dataset_samples` (None: older than this was noted) were scored: the first ones, or those of the list
    `images_digest`. `metrics`: name -> value, `units`: name -> unit.
    """

    result_id: str
    run_id: str
    job_id: str
    attempt: int
    kind: str
    recipe: str
    recipe_version: int
    dataset: str | None
    dataset_digest: str | None
    samples: int | None
    soc_version: str | None
    device_id: str | None
    emulated: bool
    batch_size: int
    precision: str
    quality: Quality
    om_digest: str | None
    toolchain: str
    facts: Mapping[str, Any]
    created_at: datetime
    metrics: Mapping[str, float]
    units: Mapping[str, str]
    dataset_samples: int | None = None
    images_digest: str | None = None
    scope: str = Scope.CHIP

    @property
    def is_partial(self) -> bool:
        """Return whether a part of a dataset was scored, so that it must not be held against published figures.

        An old result counts as partial when a limit was asked for.
        """
        if self.dataset is None or self.samples is None:
            return False
        if self.dataset_samples is None:
            return self.facts.get("params", {}).get("limit") is not None
        return self.samples < self.dataset_samples

    @property
    def recipe_options(self) -> Mapping[str, str]:
        """Return what was chosen of the recipe; where that is anything, published figures are of something else."""
        options: Mapping[str, str] = self.facts.get("params", {}).get("recipe_options", {})
        return options

    @property
    def variant(self) -> str:
        """Return the recipe, with its options where any were chosen: `pyramidbox (side=320)`."""
        chosen = ", ".join(f"{name}={value}" for name, value in sorted(self.recipe_options.items()))
        return f"{self.recipe} ({chosen})" if chosen else self.recipe


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A claimed attempt: what a worker needs to run it.

    Attributes:
        inputs: role -> digests, uploaded ones and those that other jobs produced, in order.
        input_facts: role -> the facts of the jobs that produced them, for provenance.
        running_seconds: how long the attempt has run, for long leases.
        previous_error: code with which the attempt before ended.
        source_name: what the person called the file that the run began with.
        accompanies: whether it runs for the sake of another job, on another chip of the card.
    """

    job_id: str
    run_id: str
    attempt: int
    owner: str
    kind: JobKind
    recipe: str
    recipe_version: int
    params: Mapping[str, Any]
    soc_version: str | None
    device: DeviceRecord
    inputs: Mapping[str, tuple[str, ...]]
    input_facts: Mapping[str, tuple[Mapping[str, Any], ...]]
    failures: int
    losses: int
    max_attempts: int
    previous_error: str | None = None
    source_name: str = ""
    accompanies: bool = False


@dataclass(frozen=True, kw_only=True)
class BeatReply:
    """What a worker hears when it beats.

    Attributes:
        cancel: a person wants the job to end.
        drain: the device is to take no further job.
        evict: the device is sick or gone: the job is to be done elsewhere.
    """

    cancel: bool
    drain: bool
    evict: bool = False


@dataclass(frozen=True, kw_only=True)
class ActiveAttempt:
    """An attempt that a device has: what the scheduler reasons about.

    `age_seconds` is since the claim by the database's clock; `silent_seconds` since the last (re)send.
    """

    job_id: str
    number: int
    run_id: str
    kind: JobKind
    device_id: str
    state: AttemptState
    beats: int
    publishes: int
    unanswered_seconds: float | None
    lease_over: bool
    age_seconds: float
    cancel_requested: bool
