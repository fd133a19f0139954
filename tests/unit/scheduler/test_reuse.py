"""What a plan would reuse, foreseen with the same keys that the scheduler uses."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

from db.records import JobRecord, NewJob
from npuq.states import JobKind, Quality
from scheduler.reuse import foresee, key_of, trusted
from scheduler.toolchains import Toolchains
from tests.services.world import run_spec
from tests.unit.scheduler.test_plan import plan

TOOLS = Toolchains(newest="cann-8.0", known=frozenset({"cann-8.0"}))


class Past:
    """Jobs that succeeded, by content key."""

    def __init__(self) -> None:
        self._done: dict[str, JobRecord] = {}
        self.outputs: dict[str, dict[str, tuple[str, ...]]] = {}

    def find(self, key: str) -> JobRecord | None:
        """Return the job of a key."""
        return self._done.get(key)

    def succeed(self, job: NewJob, role: str, quality: Quality = Quality.CLEAN) -> None:
        """Let a job of an earlier plan have made one artifact."""
        inputs = dict(job.inputs)
        for needed, labels in job.parents.items():
            inputs[needed] = tuple(digest for label in labels for digest in self.outputs[label][needed])
        key = key_of(job, inputs, TOOLS.newest if job.kind is JobKind.CONVERT else None)
        self.outputs[job.label] = {role: (key,)}
        self._done[key] = cast(
            "JobRecord", SimpleNamespace(outputs=self.outputs[job.label], facts={"quality": quality})
        )


def past_of(jobs: list[NewJob], *labels: str) -> Past:
    """Return a past in which these jobs of a plan succeeded."""
    past = Past()
    roles = {JobKind.EXPORT: "onnx", JobKind.CONVERT: "om", JobKind.INFER: "predictions"}
    for job in jobs:
        if job.label in labels:
            past.succeed(job, roles.get(job.kind, "none"))
    return past


def test_a_chain_of_equal_work_is_foreseen_as_far_as_it_reaches() -> None:
    """Another run of the same weights: export and one conversion are there, what follows is not."""
    past = past_of(plan(run_spec(batch_sizes=(1, 4))), "export", "convert bs1 fp16")
    assert foresee(plan(run_spec(batch_sizes=(1, 4))), past.find, TOOLS) == {"export", "convert bs1 fp16"}


def test_another_toolchain_or_a_lost_parent_ends_the_chain() -> None:
    """The key of a conversion holds what converts, and its input."""
    jobs = plan(run_spec(batch_sizes=(1,)))
    past = past_of(jobs, "export", "convert bs1 fp16")
    assert foresee(jobs, past.find, Toolchains(newest="cann-9.0")) == {"export"}
    assert foresee(jobs, lambda _key: None, TOOLS) == frozenset()


def test_what_is_asked_for_afresh_is_not_reused() -> None:
    """`--fresh` measures anew, with the models that are there."""
    jobs = plan(run_spec(goals=(JobKind.BENCHMARK,), batch_sizes=(1,)))
    past = past_of(jobs, *(job.label for job in jobs))
    assert foresee(jobs, past.find, TOOLS) == {job.label for job in jobs}
    afresh = [replace(job, fresh=job.kind is JobKind.BENCHMARK) for job in jobs]
    assert foresee(afresh, past.find, TOOLS) == {"export", "convert bs1 fp16"}


def test_a_measurement_that_does_not_count_is_not_reused() -> None:
    """It is kept, and never used."""
    jobs = plan(run_spec(goals=(JobKind.BENCHMARK,), batch_sizes=(1,)))
    past = past_of(jobs, "export", "convert bs1 fp16")
    past.succeed(jobs[-1], "none", Quality.CONTAMINATED)
    assert jobs[-1].label not in foresee(jobs, past.find, TOOLS)
    assert trusted(None) is None
