"""The seam between a worker and the work: what a step is asked, what it answers, and what it may use.

The values here cross a pipe as JSON, so that the process that owns a chip and the process that holds the lease can
die apart. A step function takes a `StepContext` and returns a `StepOutcome`, or raises a `NpuqError`.
"""

import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from npuq.states import JobKind

if TYPE_CHECKING:
    from tasks.idleness import ChipState
    from tasks.protocols import FeederPool, InferenceSession


@dataclass(frozen=True, kw_only=True)
class ImageListRef:
    """The part of a dataset that a job uses.

    Attributes:
        path: the list's file on this host; see `tasks.image_lists`.
        digest: SHA-256 of that file, part of content keys.
        count: how many images it lists.
    """

    path: Path
    digest: str
    count: int


@dataclass(frozen=True, kw_only=True)
class DatasetRef:
    """A dataset as a host sees it.

    Attributes:
        name: its name in the fleet.
        format: how its folder is laid out; see `tasks.datasets.FORMATS`.
        root: its folder on this host; of a dataset with a `source`, a folder of the attempt's own.
        digest: SHA-256 of its manifest, and so of everything in it; part of content keys.
        samples: number of images.
        manifest: the manifest's file on this host; see `tasks.dataset_manifest`.
        images: the images that the job uses; None: all.
        source: whom to ask for files that are not in `root` yet (`tasks.dataset_requests`), because they are kept in
            the store; None: what is not in `root` is missing.
        host: this host's name in the fleet, for messages.
    """

    name: str
    format: str
    root: Path
    digest: str
    samples: int
    manifest: Path
    images: ImageListRef | None = None
    source: str | None = None
    host: str = field(default_factory=socket.gethostname)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        images = None if self.images is None else asdict(self.images) | {"path": str(self.images.path)}
        return asdict(self) | {"root": str(self.root), "manifest": str(self.manifest), "images": images}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the JSON form; raises KeyError or TypeError when it is not one."""
        listed = data["images"]
        images = None if listed is None else ImageListRef(**{**listed, "path": Path(listed["path"])})
        return cls(**{**data, "root": Path(data["root"]), "manifest": Path(data["manifest"]), "images": images})


@dataclass(frozen=True, kw_only=True)
class DeviceRef:
    """The chip a step runs on; None in a request for host steps.

    `memory_baseline_mib`: what npu-smi shows as used when nobody uses it; None: not learned.
    """

    device_id: str
    npu_id: int
    chip_id: int
    logic_id: int
    soc_version: str
    emulated: bool
    memory_baseline_mib: int | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class StepRequest:
    """One attempt of one job, with its inputs already on this host.

    Attributes:
        job_id: 32 hex digits.
        attempt: the fence, from 1.
        kind: which step.
        recipe: recipe id.
        params: the job's parameters, JSON values (see `scheduler/plan.py` for the keys of each kind).
        inputs: role -> files. `export`: `weights`; `convert`: `onnx`; `infer`, `benchmark`: `om`;
            `evaluate`: `predictions`, one file per shard. `infer` and `evaluate` of a part of a dataset: `images`.
        input_digests: role -> SHA-256 of those files, in the same order.
        workdir: private, empty folder of this attempt: the step's current directory, outputs go here.
        dataset: for `infer` and `evaluate`.
        device: for `infer` and `benchmark`.
    """

    job_id: str
    attempt: int
    kind: JobKind
    recipe: str
    params: Mapping[str, Any]
    inputs: Mapping[str, tuple[Path, ...]]
    input_digests: Mapping[str, tuple[str, ...]]
    workdir: Path
    dataset: DatasetRef | None = None
    device: DeviceRef | None = None

    @property
    def recipe_options(self) -> Mapping[str, str]:
        """Return what is chosen of the recipe, name -> value."""
        options: Mapping[str, str] = self.params.get("recipe_options", {})
        return options

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        data = asdict(self)
        data["workdir"] = str(self.workdir)
        data["inputs"] = {role: [str(path) for path in paths] for role, paths in self.inputs.items()}
        data["input_digests"] = {role: list(digests) for role, digests in self.input_digests.items()}
        data["params"] = dict(self.params)
        if self.dataset is not None:
            data["dataset"] = self.dataset.to_json()
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the JSON form; raises KeyError, TypeError or ValueError when it is not one."""
        dataset = data.get("dataset")
        device = data.get("device")
        return cls(
            job_id=data["job_id"],
            attempt=data["attempt"],
            kind=JobKind(data["kind"]),
            recipe=data["recipe"],
            params=data["params"],
            inputs={role: tuple(Path(path) for path in paths) for role, paths in data["inputs"].items()},
            input_digests={role: tuple(digests) for role, digests in data["input_digests"].items()},
            workdir=Path(data["workdir"]),
            dataset=None if dataset is None else DatasetRef.from_json(dataset),
            device=None if device is None else DeviceRef(**device),
        )


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A named number with its unit, for example `percent`, `fraction`, `fps`, `ms`."""

    value: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class StepOutcome:
    """What a step made.

    Attributes:
        outputs: role -> files in the work folder, to be stored. `export`: `onnx`; `convert`: `om`;
            `infer`: `predictions`.
        metrics: numbers of a result (`evaluate`, `benchmark`), or of the step itself.
        facts: provenance, JSON values: command lines, tool versions, sample counts, timings.
        quality: of a measurement: `clean`, `unstable`, `contaminated`.
    """

    outputs: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    quality: str = "clean"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "outputs": {role: [str(path) for path in paths] for role, paths in self.outputs.items()},
            "metrics": {name: asdict(metric) for name, metric in self.metrics.items()},
            "facts": dict(self.facts),
            "quality": self.quality,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the JSON form; raises KeyError, TypeError or ValueError when it is not one."""
        return cls(
            outputs={role: tuple(Path(path) for path in paths) for role, paths in data["outputs"].items()},
            metrics={name: Metric(**metric) for name, metric in data["metrics"].items()},
            facts=data["facts"],
            quality=data["quality"],
        )


class StepContext(Protocol):
    """What a step may use besides its request. Implemented by the child processes in `worker/`."""

    @property
    def request(self) -> StepRequest:
        """Return what is asked."""

    def progress(self, done: int, total: int, unit: str) -> None:
        """Tell how far the step is; cheap, may be called for every batch."""

    def session(self, model: Path) -> "InferenceSession":
        """Return a session for an OM on this step's chip, kept loaded between jobs."""

    def feeders(self) -> "FeederPool":
        """Return the processes that decode and postprocess beside the chip."""

    def chip_state(self, friends: frozenset[int] = frozenset()) -> "ChipState":
        """Return what `npu-smi` says about this step's chip now; raises NpuqError when that cannot be known.

        `friends` are ids of processes beside this one that are no strangers: where only a card's processes are told,
        those on its other chips seem to be here.
        """


class Step(Protocol):
    """A step: `tasks.export.run`, `tasks.convert.run`, ..."""

    def __call__(self, context: StepContext) -> StepOutcome:
        """Do the work; raises NpuqError."""
