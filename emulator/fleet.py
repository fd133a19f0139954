"""The emulated fleet as values: cards and chips, how fast they answer, and what is wrong with them.

The JSON form is `fleet.json`; people and tests edit it. Nothing here touches files.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from signal import Signals, valid_signals
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
    """What can be wrong with a chip, or with the whole host (`HOST_FAULTS`)."""

    HANG = "hang"  #: an execution never returns
    SLOW = "slow"  #: executions take `factor` times as long
    OOM = "oom"  #: no device memory, at load or at execution
    OPEN_FAILED = "open_failed"  #: the device cannot be opened (507033)
    BAD_EXECUTE = "bad_execute"  #: a kernel fails in an execution (507011)
    WRONG_SOC = "wrong_soc"  #: a model is refused at load as one for another chip
    CRASH = "crash"  #: the process aborts in an execution (SIGABRT)
    ALARM = "alarm"  #: health is `health`; it still computes
    LOST = "lost"  #: gone from npu-smi, nothing works on it
    LEAK = "leak"  #: `memory_mb` are held and no process shows
    NO_DRIVER = "no_driver"  #: of the host: npu-smi answers -8005, no chip can be opened
    ATC_SLOW = "atc_slow"  #: of the host: a conversion takes `seconds` longer
    ATC_KILLED = "atc_killed"  #: of the host: atc dies by `signal`, without a word
    ATC_FAILED = "atc_failed"  #: of the host: atc prints `text` as its error and exits 255


HOST_FAULTS: Final = frozenset({FaultKind.NO_DRIVER, FaultKind.ATC_SLOW, FaultKind.ATC_KILLED, FaultKind.ATC_FAILED})
"""Faults that belong to no chip."""
LASTING_FAULTS: Final = frozenset({FaultKind.ALARM, FaultKind.LOST, FaultKind.LEAK, FaultKind.NO_DRIVER})
"""Faults that are a state, not an event: they do not strike and are not counted."""
HEALTH_WORDS: Final = ("OK", "Warning", "Alarm", "Critical", "UNKNOWN")
"""What npu-smi says of a chip's health."""
FAULT_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "count": (1, 1_000_000),
    "factor": (1, 1_000_000),
    "memory_mb": (1, 1_048_576),
    "seconds": (0, 86_400),
}
"""Smallest and largest value of a fault's numbers."""
_MODEL_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "base_ms": (0, 86_400_000),
    "per_sample_ms": (0, 86_400_000),
    "jitter": (0, 1),
}
DEADLY_SIGNALS: Final = frozenset(valid_signals()) - {
    *(Signals.SIGCHLD, Signals.SIGCONT, Signals.SIGURG, Signals.SIGWINCH),
    *(Signals.SIGSTOP, Signals.SIGTSTP, Signals.SIGTTIN, Signals.SIGTTOU),
}
"""Signals that end a process which does not care for them: neither those that are ignored nor those that stop it."""


def _check_ranges(values: object, ranges: Mapping[str, tuple[int, int]]) -> None:
    """Raise ValueError for a number out of its range, which NaN always is; None stands for no number."""
    for name, (least, most) in ranges.items():
        value = getattr(values, name)
        if value is not None and not least <= value <= most:
            raise ValueError(f"{name} {value} is not between {least} and {most}")


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
        name: npu-smi's Name, for example `310P3`; `Ascend910` on A3.
        memory_total_mb: device memory.
        memory_idle_mb: what npu-smi shows as used when nothing runs.
        power_w: rated power, None prints `NA`.
        temp_c: degrees Celsius.
        ddr_used_mb: of the memory beside the high bandwidth memory, on 910A.
        ddr_total_mb: that memory; 0: none.
        die_id: the chip's own number, which stays when it is numbered anew; "": not shown.
        soc: what ATC compiles for, where `name` does not tell; "": by `name`.
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
    ddr_used_mb: int = 0
    ddr_total_mb: int = 0
    die_id: str = ""
    soc: str = ""

    @property
    def soc_version(self) -> str:
        """Return what ATC compiles for."""
        return self.soc or f"Ascend{self.name.removeprefix('Ascend')}"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something wrong with one chip, or with the host.

    Attributes:
        device: logic id; None for the faults of the host, and for them only.
        kind: what.
        count: how often it still strikes; None: until it is cleared. Ignored by `LASTING_FAULTS`.
        factor: how many times slower, for `slow`.
        health: the word for `alarm`, one of `HEALTH_WORDS`.
        memory_mb: what leaked, for `leak`.
        seconds: how much longer, for `atc_slow`.
        signal: number of the signal, for `atc_killed`.
        text: what atc prints, for `atc_failed`, for example `EZ3003: No supported Ops kernel ...`.
    """

    device: int | None
    kind: FaultKind
    count: int | None = None
    factor: float = 2.0
    health: str = "Alarm"
    memory_mb: int = 1024
    seconds: float = 10.0
    signal: int = 9
    text: str = "E19999: Inner Error!"

    def __post_init__(self) -> None:
        if (self.device is None) != (self.kind in HOST_FAULTS):
            whose, place = ("the host", "`host`") if self.kind in HOST_FAULTS else ("a chip", "a chip's logic id")
            raise ValueError(f"{self.kind} is a fault of {whose}: its device is {place}")
        if self.health not in HEALTH_WORDS:
            raise ValueError(f"health {self.health!r} is none of {', '.join(HEALTH_WORDS)}")
        if self.signal not in DEADLY_SIGNALS:
            raise ValueError(f"signal {self.signal} ends no process; 9 is SIGKILL")
        if not self.text.strip():
            raise ValueError("text is empty: atc always says something, for example `E19999: Inner Error!`")
        _check_ranges(self, FAULT_RANGES)


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

    def __post_init__(self) -> None:
        _check_ranges(self, _MODEL_RANGES)

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

    def fault(self, logic_id: int | None, kind: FaultKind) -> Fault | None:
        """Return the first fault of a kind that a chip (None: the host) has."""
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
