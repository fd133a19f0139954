"""The emulated fleet as values: cards and chips, how fast they answer, and what is wrong with them.

The JSON form is `fleet.json`; people and tests edit it. Nothing here touches files.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final, Self

from npuq.errors import Blame, NpuqError

DRIVER_VERSION: Final = "24.1.0-emulated"
TOOLKIT_VERSION: Final = "8.0.0-emulated"
SCHEMA: Final = 1


class FleetFileError(NpuqError):
    """The emulator's home or its fleet file is missing or malformed."""

    code = "emulator_home"
    blame = Blame.HOST


class FaultKind(StrEnum):
    """What can be wrong with a chip."""

    HANG = "hang"  #: an execution never returns
    SLOW = "slow"  #: executions take `factor` times as long
    OOM = "oom"  #: no device memory, at load or at execution
    OPEN_FAILED = "open_failed"  #: the device cannot be opened (507033)
    CRASH = "crash"  #: the process aborts in an execution
    ALARM = "alarm"  #: health is Alarm; it still computes
    LOST = "lost"  #: gone from npu-smi, nothing works on it


class Mode(StrEnum):
    """What an execution does."""

    COMPUTED = "computed"  #: onnxruntime computes
    TIMED = "timed"  #: zeros after the modelled service time


class Api(StrEnum):
    """Generations of `aclruntime` that differ in `exec_time_list`."""

    FLOATS = "2022"  #: one float per execution, ms
    PAIRS = "2023"  #: one (start, end) pair per execution, ms


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One chip.

    Attributes:
        logic_id: what ACL calls it, from 0.
        npu_id: its card for npu-smi; neither dense nor from 0.
        chip_id: which chip of the card.
        bus_id: PCIe address; the chips of a Duo share one.
        name: npu-smi's Name, for example `310P3`.
        memory_total_mb: device memory.
        memory_idle_mb: what npu-smi shows as used when nothing runs.
        power_w: rated power, None prints `NA`.
        temp_c: degrees Celsius.
    """

    logic_id: int
    npu_id: int
    chip_id: int
    bus_id: str
    name: str
    memory_total_mb: int
    memory_idle_mb: int
    power_w: float | None = None
    temp_c: int = 45

    @property
    def soc_version(self) -> str:
        """Return what ATC compiles for."""
        return f"Ascend{self.name}"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something wrong with one chip.

    Attributes:
        device: logic id.
        kind: what.
        count: how often it still strikes; None: until it is cleared. Ignored by `alarm` and `lost`.
        factor: how much slower, for `slow`.
    """

    device: int
    kind: FaultKind
    count: int | None = None
    factor: float = 2.0


@dataclass(frozen=True, kw_only=True)
class ServiceTime:
    """How long an execution takes in timed mode: `base_ms + per_sample_ms * batch`, times 1 ± jitter.

    Attributes:
        base_ms: milliseconds per execution.
        per_sample_ms: milliseconds per sample of the batch.
        jitter: largest relative deviation, 0 to 1, uniform.
        seed: of the jitter.
    """

    base_ms: float = 2.0
    per_sample_ms: float = 0.5
    jitter: float = 0.0
    seed: int = 0

    def mean_seconds(self, batch: int) -> float:
        """Return the time of one execution without jitter."""
        return (self.base_ms + self.per_sample_ms * batch) / 1000


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Everything that `fleet.json` says."""

    chips: tuple[Chip, ...]
    driver_version: str = DRIVER_VERSION
    toolkit_version: str = TOOLKIT_VERSION
    mode: Mode = Mode.COMPUTED
    api: Api = Api.PAIRS
    service_time: ServiceTime = ServiceTime()
    faults: tuple[Fault, ...] = ()

    def chip(self, logic_id: int) -> Chip | None:
        """Return a chip by logic id."""
        return next((chip for chip in self.chips if chip.logic_id == logic_id), None)

    def fault(self, logic_id: int, kind: FaultKind) -> Fault | None:
        """Return the first fault of a kind that a chip has."""
        return next((fault for fault in self.faults if fault.device == logic_id and fault.kind is kind), None)

    def struck(self, fault: Fault) -> Self:
        """Return the fleet after a fault struck once: a counted fault comes closer to its end."""
        if fault.count is None:
            return self
        index = self.faults.index(fault)
        left = () if fault.count <= 1 else (replace(fault, count=fault.count - 1),)
        return replace(self, faults=(*self.faults[:index], *left, *self.faults[index + 1 :]))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"schema": SCHEMA, "emulated": True, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the JSON form; keys that are missing have their defaults.

        Raises:
            FleetFileError: a key is unknown, a value malformed, or a chip number given twice.
        """
        known = {key: value for key, value in data.items() if key not in {"schema", "emulated"}}
        try:
            fleet = cls(
                **{
                    **known,
                    "chips": tuple(Chip(**chip) for chip in known["chips"]),
                    "mode": Mode(known.get("mode", Mode.COMPUTED)),
                    "api": Api(known.get("api", Api.PAIRS)),
                    "service_time": ServiceTime(**known.get("service_time", {})),
                    "faults": tuple(_fault(fault) for fault in known.get("faults", ())),
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FleetFileError(
                f"fleet.json is malformed: {error}; correct it, or install anew with --force"
            ) from error
        if len({chip.logic_id for chip in fleet.chips}) != len(fleet.chips):
            raise FleetFileError("fleet.json gives a logic_id twice: every chip needs its own")
        return fleet


def _fault(data: Mapping[str, Any]) -> Fault:
    return Fault(**{**data, "kind": FaultKind(data["kind"])})
