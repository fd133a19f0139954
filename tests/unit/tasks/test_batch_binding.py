from collections.abc import Sequence

import numpy as np
import pytest

from npuq.errors import InvalidRequestError
from tasks.batch_binding import bind_batch
from tasks.protocols import BoundTensor
from tests.unit.tasks.chip_context import FakeSession


class DynamicSession(FakeSession):
    """A session whose first axes are open, or more."""

    def __init__(self, *compiled: tuple[int, ...]) -> None:
        super().__init__(1, lambda _: 1.0)
        self._compiled = compiled
        self.bound: list[list[tuple[int, ...]]] = []

    @property
    def compiled_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Return what the test says."""
        return self._compiled

    def bind(self, shapes: Sequence[tuple[int, ...]], *, output_bytes: Sequence[int] = ()) -> None:
        """Note the shapes."""
        assert not output_bytes
        self.bound.append(list(shapes))
        self.inputs = (BoundTensor(name="x", dtype=np.dtype("float32"), shape=shapes[0]),)


def test_open_batch_axes_get_the_batch_size_of_the_job() -> None:
    """Job after job on one loaded model; an input without an open axis keeps its shape."""
    session = DynamicSession((-1, 2), (1, 10))
    for batch_size in (4, 8, 4):
        bind_batch(session, batch_size)
    assert session.bound == [[(4, 2), (1, 10)], [(8, 2), (1, 10)], [(4, 2), (1, 10)]]


def test_other_open_axes_are_not_guessed() -> None:
    """A job knows its batch size, not the size of its images."""
    with pytest.raises(InvalidRequestError, match="more than the batch size"):
        bind_batch(DynamicSession((-1, 3, -1, -1)), 4)


def test_a_static_model_has_to_have_the_batch_size() -> None:
    """Nothing is bound."""
    session = FakeSession(4, lambda _: 1.0)
    bind_batch(session, 4)
    with pytest.raises(InvalidRequestError, match="compiled for batch size 4, the job says 8"):
        bind_batch(session, 8)
