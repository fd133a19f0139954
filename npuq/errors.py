"""One tree of errors: what is wrong, what to do, who is to blame, and whether another try helps.

Each class is one sentence and the facts a caller needs. `ErrorInfo` is the same as a value, for the database and for
the wire between a worker and its child process.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, ClassVar

MAX_DETAIL_CHARACTERS = 8_000


class Blame(StrEnum):
    """Who is to blame for a failure."""

    INPUT = "input"  #: what the person asked for or uploaded
    DEVICE = "device"  #: one chip
    HOST = "host"  #: one machine: a missing folder, tool, module, memory
    FLEET = "fleet"  #: the services: broker, database, store, scheduler


class ExitCode:
    """Exit codes of the command line (design, section 9)."""

    DONE = 0
    FAILED = 1  #: a job or a check failed
    USAGE = 2  #: the request was wrong
    FLEET = 3  #: nothing wrong with the input
    TIMEOUT = 4  #: timed out waiting
    INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class ErrorInfo:
    """An error as a value.

    Attributes:
        code: stable short name, for example `atc_failed` or `E10001`.
        blame: who is to blame.
        message: one or two sentences: what is wrong, and what to do.
        retry: whether another try may help.
        detail: the tool's own last lines, at most `MAX_DETAIL_CHARACTERS`, newest kept.
        once: another try helps at most once: the same failure again means that the input is at fault.
    """

    code: str
    blame: Blame
    message: str
    retry: bool
    detail: str = ""
    once: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ErrorInfo":
        """Read the JSON form; raises KeyError or ValueError when it is not one."""
        return cls(
            code=str(data["code"]),
            blame=Blame(data["blame"]),
            message=str(data["message"]),
            retry=bool(data["retry"]),
            detail=str(data.get("detail", "")),
            once=bool(data.get("once", False)),
        )


class NpuqError(Exception):
    """Base of all errors that npuq raises on purpose."""

    code: ClassVar[str] = "error"
    blame: ClassVar[Blame] = Blame.FLEET
    retry: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        detail: str = "",
        blame: Blame | None = None,
        retry: bool | None = None,
        once: bool = False,
    ) -> None:
        super().__init__(message)
        self.info = ErrorInfo(
            code=code or type(self).code,
            blame=blame or type(self).blame,
            message=message,
            retry=type(self).retry if retry is None else retry,
            detail=detail[-MAX_DETAIL_CHARACTERS:],
            once=once,
        )

    @classmethod
    def from_info(cls, info: ErrorInfo) -> "NpuqError":
        """Build an error from its value form."""
        return cls(info.message, code=info.code, detail=info.detail, blame=info.blame, retry=info.retry, once=info.once)


class InvalidRequestError(NpuqError):
    """What was asked for cannot be done as asked; nothing was queued."""

    code = "invalid_request"
    blame = Blame.INPUT


class NotFoundError(NpuqError):
    """No run, job, device, dataset, recipe or file of that name."""

    code = "not_found"
    blame = Blame.INPUT


class ConfigError(NpuqError):
    """A setting is missing, unknown or malformed."""

    code = "config"
    blame = Blame.INPUT


class CheckpointError(NpuqError):
    """The weights file does not fit the recipe's network, or holds what npuq refuses to load."""

    code = "checkpoint"
    blame = Blame.INPUT


class DatasetError(NpuqError):
    """A dataset is incomplete, changed, or one of its samples cannot be read."""

    code = "dataset"
    blame = Blame.INPUT


class DatasetMissingError(NpuqError):
    """The dataset's folder is not on this host."""

    code = "dataset_missing"
    blame = Blame.HOST


class DatasetChangedError(NpuqError):
    """A host's copy of a dataset is not what was registered: another host may have the registered files."""

    code = "dataset_changed"
    blame = Blame.HOST


class ExportError(NpuqError):
    """The network could not be exported, or its ONNX does not compute what torch does."""

    code = "export_failed"
    blame = Blame.INPUT


class ToolError(NpuqError):
    """An Ascend tool failed; `code` is the tool's own where it gave one."""

    code = "tool_failed"
    blame = Blame.INPUT


class ToolMissingError(NpuqError):
    """A program or module that this step needs is not installed on this host."""

    code = "tool_missing"
    blame = Blame.HOST


class DeviceError(NpuqError):
    """The chip failed; the job itself is innocent."""

    code = "device_failed"
    blame = Blame.DEVICE
    retry = True


class DeviceBusyError(NpuqError):
    """The chip is not idle, so a measurement there would not count."""

    code = "device_busy"
    blame = Blame.DEVICE
    retry = True


class ChildLostError(NpuqError):
    """The process that did the work went away without an answer."""

    code = "child_lost"
    blame = Blame.HOST
    retry = True


class StepTimeoutError(NpuqError):
    """A step ran longer than its limit and was ended."""

    code = "step_timeout"
    blame = Blame.HOST
    retry = True


class ArtifactError(NpuqError):
    """An artifact is missing from the store, or its bytes are not what its name says."""

    code = "artifact"
    blame = Blame.FLEET
    retry = True


class BrokerError(NpuqError):
    """Redis cannot be reached."""

    code = "broker"
    retry = True


class DatabaseError(NpuqError):
    """The database cannot be reached or refuses, or its schema is not this version's."""

    code = "database"
    retry = True


class SupersededError(NpuqError):
    """The attempt no longer belongs to this worker: whatever it did must not count."""

    code = "superseded"
