"""The benchmark step: how fast one OM is on one exclusive, idle chip, or on all chips of a card (design, section 8).

Only device times count. The chip is looked at before and after; what was measured on a disturbed chip is kept and
marked, never passed off as clean.
"""

import time
from dataclasses import dataclass
from typing import Any

from npuq.errors import DeviceBusyError
from npuq.specs import BenchmarkProtocol
from npuq.states import Quality, Scope
from tasks import card_benchmark
from tasks.batch_binding import bind_batch
from tasks.benchmark_setup import HALF_WIDTH, INPUT_SEED, LEAST_EXECUTIONS, parameters, random_feeds, slice_size
from tasks.idleness import ChipState, disturbance, why_busy
from tasks.metrics import measured
from tasks.protocols import Array, InferenceSession, RunTimes
from tasks.statistics import Interval, latencies, median_interval
from tasks.steps import Metric, StepContext, StepOutcome


@dataclass(frozen=True, kw_only=True)
class _Measurement:
    """What was measured, and whether the median is known well enough."""

    times: RunTimes
    interval: Interval | None
    stable: bool


def run(context: StepContext) -> StepOutcome:
    """Measure throughput and latency.

    Params: `batch_size`, and the fields of `npuq.specs.BenchmarkProtocol`, all of which may be left out. With the
    `scope` card: what `tasks.card_benchmark` takes. Others change nothing here.

    Raises:
        InvalidRequestError: parameters or inputs that cannot be.
        DeviceBusyError: the chip is not idle, and the protocol requires it.
        NpuqError: as sessions and `npu-smi` classify it.
    """
    request = context.request
    if request.params.get("scope") == Scope.CARD:
        return card_benchmark.run(context)
    model, batch_size, protocol = parameters(request)
    session = context.session(model)
    bind_batch(session, batch_size)
    feeds = random_feeds(session.inputs)
    if protocol.warmup:
        session.run(feeds, loop=protocol.warmup)
    before = context.chip_state()
    busy = why_busy(before)
    if busy is not None and protocol.require_idle:
        raise DeviceBusyError(f"A measurement on this chip would not count: {busy}. It is tried again later.")
    measurement = _measure(context, session, feeds, protocol)
    after = context.chip_state()
    disturbed = busy or disturbance(before, after)
    return StepOutcome(
        metrics=_metrics(batch_size, measurement.times),
        facts=_facts(protocol, measurement, before, after, disturbed),
        quality=_quality(measurement, disturbed),
    )


def _measure(
    context: StepContext, session: InferenceSession, feeds: list[Array], protocol: BenchmarkProtocol
) -> _Measurement:
    """Execute in slices, so that progress shows and the end can be decided in between."""
    session.reset_times()
    started = time.monotonic()
    size = 1
    interval: Interval | None = None
    while True:
        done = len(session.times().execute_ms)
        if protocol.loops is not None:
            size = min(size, protocol.loops - done)
        session.run(feeds, loop=size)
        times = session.times()
        done = len(times.execute_ms)
        elapsed = time.monotonic() - started
        interval = median_interval(times.execute_ms)
        narrow = interval is not None and interval.relative_half_width <= HALF_WIDTH
        if protocol.loops is None:
            context.progress(min(int(elapsed), int(protocol.max_seconds)), int(protocol.max_seconds), "seconds")
            if (narrow and done >= LEAST_EXECUTIONS) or elapsed >= protocol.max_seconds:
                return _Measurement(times=times, interval=interval, stable=narrow)
        else:
            context.progress(done, protocol.loops, "executions")
            if done >= protocol.loops:
                return _Measurement(times=times, interval=interval, stable=True)
        size = slice_size(done, elapsed)


def _metrics(batch_size: int, times: RunTimes) -> dict[str, Metric]:
    """Return the figures; throughput by the guides' formula."""
    execute = latencies(times.execute_ms)
    values = {
        "throughput_fps": 1000 * batch_size / execute.mean,
        "latency_mean_ms": execute.mean,
        "latency_p50_ms": execute.p50,
        "latency_p90_ms": execute.p90,
        "latency_p99_ms": execute.p99,
        "h2d_ms": latencies(times.h2d_ms).p50,
        "d2h_ms": latencies(times.d2h_ms).p50,
    }
    return {name: measured(name, value) for name, value in values.items()}


def _quality(measurement: _Measurement, disturbed: str | None) -> Quality:
    if disturbed is not None:
        return Quality.CONTAMINATED
    return Quality.CLEAN if measurement.stable else Quality.UNSTABLE


def _facts(
    protocol: BenchmarkProtocol,
    measurement: _Measurement,
    before: ChipState,
    after: ChipState,
    disturbed: str | None,
) -> dict[str, Any]:
    interval = measurement.interval
    return {
        "protocol": protocol.model_dump(mode="json"),
        "executions": len(measurement.times.execute_ms),
        "median_interval_ms": None if interval is None else [interval.low, interval.high],
        "median_half_width": None if interval is None else interval.relative_half_width,
        "input_seed": INPUT_SEED,
        "chip_before": before.as_facts(),
        "chip_after": after.as_facts(),
        "disturbed_by": disturbed,
    }
