import json
from typing import Any

import pytest

from db.records import Assignment
from npuq.states import JobKind, Quality
from tasks.steps import Metric, StepOutcome
from tests.services.world import DIGEST, SOC, TOOLCHAIN
from tests.unit.scheduler.snapshots import device, host_slot
from worker.provenance import facts_of, result_of, trouble_of

CONVERSION = {
    "command": ["atc", "--framework=5"],
    "toolchain": "cann-7",
    "cann_version": "7.0",
    "om_sha256": DIGEST,
    "atc_seconds": 3.0,
    "soc_version": SOC,
    "host": "h9",
    "secret_of_the_step": "not passed on",
}
FPS = {"throughput_fps": Metric(value=50.0, unit="fps")}


def assignment(kind: JobKind, **changes: Any) -> Assignment:
    """Return a claimed attempt."""
    values: dict[str, Any] = {
        "job_id": "0" * 32,
        "run_id": "run",
        "attempt": 1,
        "owner": "o",
        "kind": kind,
        "recipe": "mobilenet_v1",
        "recipe_version": 1,
        "params": {"batch_size": 4, "precision": "fp16"},
        "soc_version": SOC,
        "device": device(),
        "inputs": {},
        "input_facts": {},
        "failures": 0,
        "losses": 0,
        "max_attempts": 3,
    }
    return Assignment(**(values | changes))


def test_a_measurement_can_be_traced_to_the_command_that_made_its_model() -> None:
    """Chip, host, model and the conversion's command line are kept with every number."""
    given = assignment(JobKind.BENCHMARK, inputs={"om": (DIGEST,)}, input_facts={"om": (CONVERSION,)})
    outcome = StepOutcome(metrics=FPS, facts={"loops": 9}, quality="unstable")
    facts = facts_of(given, outcome)
    assert facts["conversion"] == {name: CONVERSION[name] for name in CONVERSION if name != "secret_of_the_step"}
    assert (facts["loops"], facts["device_id"], facts["om_digest"]) == (9, "h1.npu0.0", DIGEST)
    result = result_of(given, outcome, facts)
    assert result is not None
    assert (result.kind, result.toolchain, result.quality) == ("performance", "cann-7", Quality.UNSTABLE)
    assert (result.device_id, result.om_digest, result.metrics) == (
        "h1.npu0.0",
        DIGEST,
        {"throughput_fps": (50.0, "fps")},
    )


def shard(device_id: str, **changes: Any) -> dict[str, Any]:
    """Return the facts of an infer job."""
    return {"device_id": device_id, "emulated": True, "om_digest": DIGEST, "conversion": CONVERSION} | changes


@pytest.mark.parametrize(
    ("chips", "named"), [(("h1.npu0.0", "h1.npu0.0"), "h1.npu0.0"), (("h1.npu0.0", "h1.npu1.0"), None)]
)
def test_an_accuracy_names_the_chip_when_one_chip_made_it(chips: tuple[str, ...], named: str | None) -> None:
    """Several chips are all in the facts; the slot that scored is not the device of the result."""
    params = {"batch_size": 4, "precision": "fp16", "dataset": "small", "dataset_digest": "5" * 64, "soc_version": SOC}
    given = assignment(
        JobKind.EVALUATE,
        params=params,
        device=host_slot(),
        soc_version=None,
        input_facts={"predictions": tuple(shard(chip) for chip in chips)},
    )
    outcome = StepOutcome(metrics={"top1": Metric(value=70.0, unit="percent")}, facts={"samples": 200})
    result = result_of(given, outcome, facts_of(given, outcome))
    assert result is not None
    assert (result.kind, result.device_id, result.facts["devices"]) == ("accuracy", named, sorted(set(chips)))
    assert (result.samples, result.soc_version, result.om_digest) == (200, SOC, DIGEST)
    assert (result.dataset, result.dataset_digest, result.toolchain) == ("small", "5" * 64, "cann-7")


@pytest.mark.parametrize("images", [{}, {"images": {"digest": "1" * 64, "count": 20}}])
def test_an_accuracy_says_of_which_images_it_is(images: dict[str, Any]) -> None:
    """How many of how many, and the list that named them."""
    params = {"batch_size": 4, "precision": "fp16", "dataset": "small", "dataset_digest": "5" * 64} | images
    given = assignment(JobKind.EVALUATE, params=params, device=host_slot())
    outcome = StepOutcome(facts={"samples": 20, "dataset_samples": 200})
    result = result_of(given, outcome, facts_of(given, outcome))
    assert result is not None
    assert (result.samples, result.dataset_samples) == (20, 200)
    assert result.images_digest == (("1" * 64) if images else None)
    assert result.facts["params"] == params


@pytest.mark.parametrize("flags", [(True, True), (False, True), (False, False)])
def test_one_emulated_shard_makes_the_score_emulated(flags: tuple[bool, ...]) -> None:
    """What ran on the emulator never counts as hardware."""
    shards = tuple(shard("h1.npu0.0", emulated=flag) for flag in flags)
    given = assignment(JobKind.EVALUATE, input_facts={"predictions": shards}, device=host_slot())
    result = result_of(given, StepOutcome(), facts_of(given, StepOutcome()))
    assert result is not None
    assert result.emulated is any(flags)


@pytest.mark.parametrize("kind", [JobKind.EXPORT, JobKind.CONVERT, JobKind.INFER])
def test_steps_that_measure_nothing_leave_no_result(kind: JobKind) -> None:
    """Their facts are kept with the job."""
    given = assignment(kind)
    facts = facts_of(given, StepOutcome(facts={"seconds": 1.0}))
    assert result_of(given, StepOutcome(), facts) is None
    assert facts["toolchain"] == TOOLCHAIN
    assert json.dumps(facts)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (StepOutcome(metrics={"top1": Metric(value=float("nan"), unit="percent")}), "top1 is no number"),
        (StepOutcome(facts={"x": float("inf")}), "no JSON"),
        (StepOutcome(facts={"x": {1, 2}}), "no JSON"),
        (StepOutcome(facts={"command": ["a\0b"]}), "NUL"),
    ],
)
def test_what_no_database_can_keep_is_a_failure_with_a_reason(outcome: StepOutcome, reason: str) -> None:
    """It would be refused at the commit, again and again; said at once, a person can mend it."""
    error = trouble_of(outcome)
    assert error is not None
    assert reason in error.message
    assert not error.retry


def test_a_plain_outcome_is_no_trouble() -> None:
    """Backslashes and other languages are fine."""
    assert trouble_of(StepOutcome(metrics=FPS, facts={"path": "C:\\u0000", "name": "\u56fe"})) is None
