"""A step's context that only records: what the steps that need no chip may use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from npuq.states import JobKind
from tasks.steps import DatasetRef, StepContext, StepRequest


@dataclass
class RecordingContext:
    """Holds a request and remembers the progress that was told."""

    request: StepRequest
    told: list[tuple[int, int, str]] = field(default_factory=list)

    def progress(self, done: int, total: int, unit: str) -> None:
        """Remember."""
        self.told.append((done, total, unit))


def host_context(
    kind: JobKind,
    workdir: Path,
    *,
    inputs: Mapping[str, tuple[Path, ...]],
    params: Mapping[str, Any] | None = None,
    dataset: DatasetRef | None = None,
    recipe: str = "mobilenet_v1",
) -> StepContext:
    """Return the context of a step on a host; sessions and feeders are absent, so a step that wants one fails."""
    request = StepRequest(
        job_id="0" * 32,
        attempt=1,
        kind=kind,
        recipe=recipe,
        params=params or {},
        inputs=inputs,
        input_digests={},
        workdir=workdir,
        dataset=dataset,
    )
    return cast("StepContext", RecordingContext(request))
