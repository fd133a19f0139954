"""A reference needs no chip: one evaluate job on a host, which takes the ONNX itself."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from db.records import DatasetRecord
from npuq.specs import RunSpec
from npuq.states import JobKind
from scheduler.plan import plan_run
from tasks import registry

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DATASET = DatasetRecord(name="small", format="imagenet", root="/d", digest="d" * 64, samples=200, added_at=NOW)


def spec(**changes: Any) -> RunSpec:
    """Return a submitted reference of weights."""
    return RunSpec.model_validate(
        {
            "run_id": "01890a5d-ac96-7aaa-8aaa-aaaaaaaaaaaa",
            "name": "a run",
            "submitted_at": NOW,
            "submitter": "somebody",
            "goals": ["evaluate"],
            "recipe": "mobilenet_v1",
            "source": {"kind": "weights", "digest": "b" * 64, "size_bytes": 1, "name": "m.pth"},
            "dataset": "small",
            "batch_sizes": [8],
            "reference": True,
            **changes,
        }
    )


def test_weights_are_exported_and_scored_without_a_chip() -> None:
    """No conversion, no shards, and a fleet without a device is enough to plan it."""
    export, evaluate = plan_run(spec(limit=50), registry.get("mobilenet_v1"), DATASET, [])
    assert (export.kind, evaluate.kind) == (JobKind.EXPORT, JobKind.EVALUATE)
    assert evaluate.parents == {"onnx": ("export",)}
    assert (evaluate.params["reference"], evaluate.params["precision"]) == (True, "reference")
    assert (evaluate.params["batch_size"], evaluate.params["samples"]) == (8, 50)
    assert "soc_version" not in evaluate.params
    assert evaluate.soc_version is None


def test_an_onnx_is_scored_as_it_is() -> None:
    """The upload plays the role of the export."""
    source = {"kind": "onnx", "digest": "c" * 64, "size_bytes": 1, "name": "m.onnx"}
    (evaluate,) = plan_run(spec(source=source), registry.get("mobilenet_v1"), DATASET, [])
    assert (evaluate.inputs, evaluate.parents) == ({"onnx": ("c" * 64,)}, {})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"goals": ["evaluate", "benchmark"]}, "its goal is evaluate"),
        ({"source": {"kind": "om", "digest": "c" * 64, "size_bytes": 1, "name": "m.om"}}, "begin at weights or ONNX"),
        ({"batch_sizes": [1, 8]}, "ask for one"),
        ({"precisions": ["fp16", "fp32"]}, "ask for one"),
        ({"soc_version": "Ascend310P3"}, "runs on no chip"),
        ({"cann": "8.0.0"}, "runs on no chip"),
    ],
)
def test_what_means_nothing_for_a_reference_is_refused(changes: dict[str, Any], reason: str) -> None:
    """Before anything is queued."""
    with pytest.raises(ValidationError, match=reason):
        spec(**changes)
