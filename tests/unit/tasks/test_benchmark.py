from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npuq.errors import DeviceBusyError, InvalidRequestError
from npuq.states import JobKind
from tasks import benchmark, benchmark_setup
from tasks.idleness import ChipState
from tasks.protocols import BoundTensor
from tasks.steps import StepRequest
from tests.unit.tasks.chip_context import ChipContext

BUSY = ChipState(health="OK", foreign_processes=("stranger (pid 1)",))


def request_for(folder: Path, **params: Any) -> StepRequest:
    """Return a benchmark request at batch size four."""
    return StepRequest(
        job_id="0" * 32,
        attempt=1,
        kind=JobKind.BENCHMARK,
        recipe="any",
        params={"batch_size": 4, "precision": "fp16"} | params,
        inputs={"om": (folder / "m.om",)},
        input_digests={"om": ("0" * 64,)},
        workdir=folder,
    )


def test_the_guides_protocol_runs_exactly_that_often(tmp_path: Path) -> None:
    """Warm-up is not counted; throughput is 1000 x batch size / mean device time."""
    context = ChipContext(request_for(tmp_path, loops=100, warmup=3), next_ms=lambda index: 1.0 if index % 2 else 3.0)
    outcome = benchmark.run(context)
    assert context.chip.runs[0] == 3
    assert sum(context.chip.runs[1:]) == 100
    assert outcome.quality == "clean"
    assert outcome.facts["executions"] == 100
    metrics = {name: metric.value for name, metric in outcome.metrics.items()}
    assert metrics["throughput_fps"] == pytest.approx(2000.0)
    assert metrics["latency_mean_ms"] == pytest.approx(2.0)
    assert metrics["latency_p99_ms"] == pytest.approx(3.0)
    assert (metrics["h2d_ms"], metrics["d2h_ms"]) == (0.25, 0.25)
    assert outcome.metrics["throughput_fps"].unit == "fps"


def test_a_steady_chip_is_measured_until_the_median_is_known(tmp_path: Path) -> None:
    """The open-ended form ends as soon as the interval is narrow, but not before a decent number of executions."""
    context = ChipContext(request_for(tmp_path), next_ms=lambda index: 2.0 + 0.001 * (index % 3))
    outcome = benchmark.run(context)
    assert outcome.quality == "clean"
    assert outcome.facts["executions"] >= benchmark_setup.LEAST_EXECUTIONS
    assert outcome.facts["median_half_width"] <= benchmark_setup.HALF_WIDTH


def test_an_unsteady_chip_is_unstable_at_the_cap(tmp_path: Path) -> None:
    """What cannot be known well enough in time is said to be so."""
    context = ChipContext(request_for(tmp_path, max_seconds=0.05), next_ms=lambda index: 1.0 + index % 2)
    outcome = benchmark.run(context)
    assert outcome.quality == "unstable"
    assert outcome.facts["median_half_width"] > benchmark_setup.HALF_WIDTH


def test_a_busy_chip_is_not_measured(tmp_path: Path) -> None:
    """The job comes back, with the reason."""
    context = ChipContext(request_for(tmp_path, loops=5, warmup=0))
    context.states = [BUSY]
    with pytest.raises(DeviceBusyError, match="stranger"):
        benchmark.run(context)
    assert context.chip.runs == []


def test_a_disturbed_measurement_is_kept_and_marked(tmp_path: Path) -> None:
    """A visitor seen afterwards spoils the measurement, also one that was tolerated before."""
    context = ChipContext(request_for(tmp_path, loops=5))
    context.states = [ChipState(health="OK"), BUSY]
    outcome = benchmark.run(context)
    assert outcome.quality == "contaminated"
    assert "stranger" in outcome.facts["disturbed_by"]
    context = ChipContext(request_for(tmp_path, loops=5, require_idle=False))
    context.states = [BUSY, ChipState(health="OK")]
    assert benchmark.run(context).quality == "contaminated"


@pytest.mark.parametrize("params", [{"batch_size": 8}, {"batch_size": None}, {"loops": 0}, {"warmup": -1}])
def test_impossible_protocols_are_refused(tmp_path: Path, params: dict[str, Any]) -> None:
    """Also an OM of another batch size."""
    with pytest.raises(InvalidRequestError):
        benchmark.run(ChipContext(request_for(tmp_path, **params)))


def test_a_benchmark_needs_one_model(tmp_path: Path) -> None:
    """Without an OM there is nothing to measure."""
    with pytest.raises(InvalidRequestError, match="one OM"):
        benchmark.run(ChipContext(replace(request_for(tmp_path), inputs={})))


def test_inputs_are_the_same_every_time() -> None:
    """Seeded, of the model's own types."""
    tensors = (
        BoundTensor(name="x", dtype=np.dtype("float16"), shape=(2, 3)),
        BoundTensor(name="i", dtype=np.dtype("int64"), shape=(2,)),
    )
    first, second = benchmark_setup.random_feeds(tensors), benchmark_setup.random_feeds(tensors)
    for one, two, tensor in zip(first, second, tensors, strict=True):
        np.testing.assert_array_equal(one, two)
        assert (one.dtype, one.shape) == (tensor.dtype, tensor.shape)
