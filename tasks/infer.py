"""The infer step: one shard of a dataset through one chip.

Decoding and postprocessing happen in feeder processes; this loop only waits for the next batch, executes it, and hands
its outputs over, so that the chip rests only when no batch is ready.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from npuq.errors import InvalidRequestError
from tasks.batch_binding import bind_batch
from tasks.predictions import write_predictions
from tasks.protocols import FedBatch, FeederPool, FeedOrder, InferenceSession
from tasks.steps import StepContext, StepOutcome, StepRequest


@dataclass(frozen=True, kw_only=True)
class _Pace:
    """How the loop went, in milliseconds and batches."""

    batches: int
    wall_ms: float
    first_batch_ms: float
    feed_wait_ms: float


def run(context: StepContext) -> StepOutcome:
    """Predict a range of a dataset and write `predictions.npz`.

    Params: `batch_size`, `start`, `stop` (positions among the dataset's images that are used), `pass` (of the recipe);
    others change nothing here.

    Raises:
        InvalidRequestError: parameters or inputs that cannot be.
        NpuqError: a damaged image, a sick chip, a lost feeder: as sessions and feeders classify it.
    """
    request = context.request
    order = feed_order(request)
    feeders = context.feeders()
    batches = feeders.batches(order)  # decoding begins now, and goes on while the model is loaded
    (model,) = request.inputs["om"]
    session = context.session(model)
    bind_batch(session, order.batch_size)
    session.reset_times()
    pace = _drive(context, order, batches, session, feeders)
    path = request.workdir / "predictions.npz"
    samples = write_predictions(path, feeders.predictions(), pass_name=order.pass_name)
    return StepOutcome(outputs={"predictions": (path,)}, facts=_facts(order, samples, pace, session))


def feed_order(request: StepRequest) -> FeedOrder:
    """Return what the feeders are asked for; raises InvalidRequestError."""
    dataset = request.dataset
    try:
        batch_size, start, stop = (int(request.params[key]) for key in ("batch_size", "start", "stop"))
        pass_name = str(request.params.get("pass", "main"))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequestError(f"An infer job needs batch_size, start and stop; wrong is: {error!r}.") from error
    if dataset is None or len(request.inputs.get("om", ())) != 1:
        raise InvalidRequestError("An infer job needs a dataset and one OM file.")
    if batch_size < 1 or not 0 <= start < stop <= dataset.samples:
        raise InvalidRequestError(
            f"Samples {start} to {stop} in batches of {batch_size} are no part of {dataset.name!r}, which has "
            f"{dataset.samples}."
        )
    return FeedOrder(
        recipe=request.recipe,
        pass_name=pass_name,
        dataset=dataset,
        start=start,
        stop=stop,
        batch_size=batch_size,
        recipe_options=request.recipe_options,
    )


def _drive(
    context: StepContext,
    order: FeedOrder,
    batches: Iterator[FedBatch],
    session: InferenceSession,
    feeders: FeederPool,
) -> _Pace:
    """Execute batch after batch."""
    dtype = session.inputs[0].dtype
    waits_ms: list[float] = []
    done = 0
    started = time.perf_counter()
    while True:
        asked = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            break
        waits_ms.append((time.perf_counter() - asked) * 1000)
        outputs = session.run([batch.array.astype(dtype, copy=False)])
        feeders.postprocess(batch, outputs)
        done += len(batch.image_ids)
        context.progress(done, order.stop - order.start, "images")
    return _Pace(
        batches=len(waits_ms),
        wall_ms=(time.perf_counter() - started) * 1000,
        first_batch_ms=waits_ms[0],
        feed_wait_ms=sum(waits_ms[1:]),
    )


def _facts(order: FeedOrder, samples: int, pace: _Pace, session: InferenceSession) -> dict[str, Any]:
    busy_ms = sum(session.times().execute_ms)
    return {
        "samples": samples,
        "batches": pace.batches,
        "padded_rows": pace.batches * order.batch_size - samples,
        "chip_busy_ms": round(busy_ms, 3),
        "wall_ms": round(pace.wall_ms, 3),
        "chip_busy_share": round(busy_ms / pace.wall_ms, 4),
        "first_batch_ms": round(pace.first_batch_ms, 3),
        "feed_wait_ms": round(pace.feed_wait_ms, 3),
    }
