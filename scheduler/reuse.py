"""Which work has been done already: the key of a job, and which of a plan's jobs would be reused. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from db.records import JobRecord, NewJob
from npuq.specs import content_key
from npuq.states import JobKind, Quality
from scheduler.toolchains import Toolchains

#: Parameters that say how a thing is called, not what is computed.
_NAMES_ONLY: Final = frozenset({"dataset"})

Inputs = Mapping[str, tuple[str, ...]]


def key_of(job: JobRecord | NewJob, inputs: Inputs, toolchain: str | None) -> str:
    """Return the content key of a job whose inputs (role -> digests) and toolchain are known."""
    return content_key(
        job.kind,
        recipe=job.recipe,
        recipe_version=job.recipe_version,
        inputs=inputs,
        params={name: value for name, value in job.params.items() if name not in _NAMES_ONLY},
        toolchain=toolchain or "",
    )


def trusted(done: JobRecord | None) -> JobRecord | None:
    """Return equal work unless it was a measurement that does not count: that one is kept, and never used."""
    return done if done is not None and done.facts.get("quality", Quality.CLEAN) == Quality.CLEAN else None


def is_stored(job: JobRecord, has_artifact: Callable[[str], bool]) -> bool:
    """Tell whether everything that a job made is still in the store."""
    return all(has_artifact(digest) for digests in job.outputs.values() for digest in digests)


def foresee(
    plan: Sequence[NewJob], find_equal: Callable[[str], JobRecord | None], toolchains: Toolchains
) -> frozenset[str]:
    """Return the labels of the jobs that would be reused if the plan began now; what changes meanwhile is not known.

    Args:
        plan: parents before children.
        find_equal: content key -> the newest job that did the same work, its outputs still stored; None: nobody did.
        toolchains: what would convert.
    """
    outputs: dict[str, Inputs] = {}
    for job in plan:
        if job.fresh or not all(label in outputs for labels in job.parents.values() for label in labels):
            continue
        inputs = {role: tuple(digests) for role, digests in job.inputs.items()}
        for role, labels in job.parents.items():
            inputs[role] = inputs.get(role, ()) + tuple(
                digest for label in labels for digest in outputs[label].get(role, ())
            )
        toolchain = toolchains.choose(job.params)[0] if job.kind is JobKind.CONVERT else None
        done = trusted(find_equal(key_of(job, inputs, toolchain)))
        if done is not None:
            outputs[job.label] = {role: tuple(digests) for role, digests in done.outputs.items()}
    return frozenset(outputs)
