"""A `StepContext` with a chip that exists in memory only, for tests of the steps."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tasks.idleness import ChipState
from tasks.protocols import (
    Array,
    BoundTensor,
    ClassScores,
    FedBatch,
    FeedOrder,
    InferenceSession,
    Prediction,
    RunTimes,
)
from tasks.steps import StepRequest


class FakeSession:
    """A chip that doubles its input; `next_ms` says how long the next execution takes."""

    def __init__(self, batch_size: int, next_ms: Callable[[int], float]) -> None:
        tensor = BoundTensor(name="x", dtype=np.dtype("float32"), shape=(batch_size, 2))
        self.inputs = (tensor,)
        self.outputs = (tensor,)
        self.runs: list[int] = []
        self.log: list[str] = []
        self._next_ms = next_ms
        self._since_reset = 0

    @property
    def compiled_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Return the one static shape."""
        return (self.inputs[0].shape,)

    def bind(self, shapes: Sequence[tuple[int, ...]], *, output_bytes: Sequence[int] = ()) -> None:
        """Refuse: nothing here is dynamic."""
        raise AssertionError(f"bound to {shapes}, {output_bytes}")

    def run(self, feeds: Sequence[Array], *, loop: int = 1) -> list[Array]:
        """Note the run."""
        assert [feed.shape for feed in feeds] == [self.inputs[0].shape]
        self.runs.append(loop)
        self.log.append("run")
        return [feeds[0] * 2]

    def times(self) -> RunTimes:
        """Return a time for each execution since the reset."""
        runs = self.runs[self._since_reset :]
        copies = (0.25,) * len(runs)
        return RunTimes(
            execute_ms=tuple(self._next_ms(index) for index in range(sum(runs))), h2d_ms=copies, d2h_ms=copies
        )

    def reset_times(self) -> None:
        """Forget."""
        self._since_reset = len(self.runs)

    def close(self) -> None:
        """Do nothing."""


class FakeFeeders:
    """Sample i is the vector (i, i)."""

    def __init__(self, log: list[str]) -> None:
        self.orders: list[FeedOrder] = []
        self.log = log
        self._predictions: list[tuple[str, Prediction]] = []

    def batches(self, order: FeedOrder) -> Iterator[FedBatch]:
        """Yield the batches, padded with their first row."""
        self.orders.append(order)
        for index, first in enumerate(range(order.start, order.stop, order.batch_size)):
            numbers = list(range(first, min(first + order.batch_size, order.stop)))
            rows = numbers + numbers[:1] * (order.batch_size - len(numbers))
            yield FedBatch(
                index=index,
                image_ids=tuple(f"image_{number}" for number in numbers),
                metas=({},) * len(numbers),
                array=np.repeat(np.array(rows, np.float32)[:, None], 2, axis=1),
            )

    def postprocess(self, batch: FedBatch, outputs: Sequence[Array]) -> None:
        """Take the rows that count."""
        self.log.append("postprocess")
        self._predictions += [
            (image_id, ClassScores(scores=row)) for image_id, row in zip(batch.image_ids, outputs[0], strict=False)
        ]

    def predictions(self) -> Iterator[tuple[str, Prediction]]:
        """Yield all."""
        yield from self._predictions


class ChipContext:
    """What a step on a chip may use."""

    def __init__(
        self, request: StepRequest, *, batch_size: int = 4, next_ms: Callable[[int], float] = lambda _: 2.0
    ) -> None:
        self.request = request
        self.chip = FakeSession(batch_size, next_ms)
        self.pool = FakeFeeders(self.chip.log)
        self.states = [ChipState(health="OK"), ChipState(health="OK")]
        self.progress_seen: list[tuple[int, int, str]] = []
        self.friends: frozenset[int] = frozenset()

    def progress(self, done: int, total: int, unit: str) -> None:
        """Note it."""
        self.progress_seen.append((done, total, unit))

    def session(self, model: Path) -> InferenceSession:
        """Return the fake chip."""
        assert model.suffix == ".om"
        return self.chip

    def feeders(self) -> FakeFeeders:
        """Return the fake feeders."""
        return self.pool

    def chip_state(self, friends: frozenset[int] = frozenset()) -> ChipState:
        """Return the next of `states`; who are friends is remembered."""
        self.friends = friends
        return self.states.pop(0)
