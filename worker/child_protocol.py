"""What a worker and its child process say to each other, and how the child is set up. Values only.

| from | message | meaning |
| --- | --- | --- |
| worker | `run`: request, marker | run one attempt; print `marker` on stdout when all its output is out |
| child | `progress`: done, total, unit | how far the attempt is |
| child | `tail`: marker | what was printed since the last question, up to `marker`? |
| worker | `tail`: text | these |
| child | `answer`: outcome or error, loaded, ending | the attempt is over; `ending`: this child takes no other |

The end of the stream ends the child.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from npuq.states import JobKind
from tasks.steps import DeviceRef


class MessageType(StrEnum):
    """The `type` of a message."""

    RUN = "run"
    PROGRESS = "progress"
    TAIL = "tail"
    ANSWER = "answer"


#: Which function does which kind of job, as `module:function`; imported in the child when it is needed.
STEP_FUNCTIONS: Mapping[str, str] = {kind.value: f"tasks.{kind.value}:run" for kind in JobKind}


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a step is: `done` of `total`, counted in `unit` (for example `images`)."""

    done: int
    total: int
    unit: str


@dataclass(frozen=True, kw_only=True)
class ChildSettings:
    """How a child is set up.

    Attributes:
        name: for people.
        device: the chip it owns; None for a child that works on the host.
        lock_fd: descriptor of the chip's lock, to be held by every process of the job; None without a lock.
        feeders: feeder processes beside the chip.
        sample_cache: folder of the preprocessed samples of this host.
        sample_cache_bytes: its bound; 0 switches it off.
        tool_timeout_seconds: limit of one call of `npu-smi`.
        npu_smi_lock: file that all callers of `npu-smi` on this host lock.
        steps: kind -> `module:function`.
    """

    name: str
    device: DeviceRef | None
    lock_fd: int | None
    feeders: int
    sample_cache: Path
    sample_cache_bytes: int
    tool_timeout_seconds: float
    npu_smi_lock: Path
    steps: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        paths = {"sample_cache": str(self.sample_cache), "npu_smi_lock": str(self.npu_smi_lock)}
        return asdict(self) | paths | {"steps": dict(self.steps)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the JSON form; raises KeyError or TypeError when it is not one."""
        device = data["device"]
        return cls(
            **{
                **data,
                "device": None if device is None else DeviceRef(**device),
                "sample_cache": Path(data["sample_cache"]),
                "npu_smi_lock": Path(data["npu_smi_lock"]),
            }
        )
