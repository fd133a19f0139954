"""Everything that travels through Redis: task names, queue names, payloads, keys.

| key | type | meaning | expires |
| --- | --- | --- | --- |
| `npuq.submit` | list | specifications of runs for the scheduler | permanent queue |
| `npuq.device.<id>`, `npuq.host.<id>` | list | doorbells for one device worker or host worker | permanent queue |
| `npuq:wake` | list | at most one element: "something changed, look at the database" | permanent, bounded |
| `_kombu.binding*`, `unacked*` | set, hash, zset | Celery's transport | owned by kombu |

A message is a doorbell. Forged, doubled, late or lost, it changes nothing: the database decides at the claim.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from npuq.errors import InvalidRequestError
from npuq.specs import RunSpec

SUBMIT_TASK: Final = "npuq.submit"
RUN_ATTEMPT_TASK: Final = "npuq.run_attempt"
SUBMIT_QUEUE: Final = "npuq.submit"
WAKE_KEY: Final = "npuq:wake"
MAX_MESSAGE_BYTES: Final = 256 * 1024


def device_queue(device_id: str) -> str:
    """Return the queue of one chip's worker."""
    return f"npuq.device.{device_id}"


def host_queue(host_id: str) -> str:
    """Return the queue of one host's worker for host jobs."""
    return f"npuq.host.{host_id}"


class RunAttempt(BaseModel):
    """The doorbell of one attempt; everything else is read from the database."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    job_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    attempt: int = Field(ge=1, le=1_000_000)


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'message'}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False)[:5]
    )


def parse_run_attempt(payload: Any) -> RunAttempt:  # noqa: ANN401 - untrusted
    """Validate the payload of `npuq.run_attempt`; raises InvalidRequestError."""
    try:
        return RunAttempt.model_validate(payload)
    except ValidationError as error:
        raise InvalidRequestError(f"not a run_attempt message: {_explain(error)}") from error


def parse_run_spec(payload: Any) -> RunSpec:  # noqa: ANN401 - untrusted
    """Validate the payload of `npuq.submit`, the JSON text of a RunSpec; raises InvalidRequestError."""
    if not isinstance(payload, str) or len(payload.encode(errors="replace")) > MAX_MESSAGE_BYTES:
        raise InvalidRequestError(f"not a run specification: JSON text of at most {MAX_MESSAGE_BYTES} bytes expected")
    try:
        return RunSpec.model_validate_json(payload)
    except ValidationError as error:
        raise InvalidRequestError(f"not a valid run specification: {_explain(error)}") from error
