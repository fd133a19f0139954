import os
import random
import socket
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.protocols import Array, ClassScores, Detections, Prediction
from worker.feeder_wire import Frame, pack_predictions, receive_frame, send_frame, unpack_predictions
from worker.shared_batches import ArraySpec, OrderLedger, map_arrays, new_memory, ring_rows, samples_per_unit


@settings(deadline=None)  # the machine may be busy
@given(
    samples=st.integers(1, 300),
    batch_size=st.integers(1, 40),
    unit=st.integers(1, 32),
    in_flight=st.integers(1, 12),
    seed=st.integers(0, 2**16),
)
def test_every_sample_is_prepared_once_and_never_over_a_row_in_use(
    samples: int, batch_size: int, unit: int, in_flight: int, seed: int
) -> None:
    """Whatever the order in which units come back, every batch becomes ready, in bounded memory, without a deadlock."""
    rows = ring_rows(batch_size=batch_size, unit_samples=unit, units_in_flight=in_flight)
    ledger = OrderLedger(samples=samples, batch_size=batch_size, rows=rows, unit_samples=unit)
    chance = random.Random(seed)
    row_of: dict[int, int] = {}
    open_units: list[range] = []
    for batch in range(ledger.batches):
        while not ledger.is_ready(batch):
            while len(open_units) < in_flight and (taken := ledger.take_unit()) is not None:
                open_units.append(taken)
                assert len(taken) <= unit
                for sample in taken:
                    assert sample % rows not in row_of
                    row_of[sample % rows] = sample
            assert open_units
            ledger.prepared(open_units.pop(chance.randrange(len(open_units))))
        span = ledger.samples_of(batch)
        assert [row_of.pop(sample % rows) for sample in span] == list(span)
        assert span.start % rows + batch_size <= rows
        ledger.release(batch)
    assert ledger.all_released
    assert ledger.take_unit() is None
    assert row_of == {}


def test_rows_are_free_again_in_the_order_of_batches() -> None:
    """A later batch that is released first frees nothing yet: rows are used round about."""
    ledger = OrderLedger(samples=100, batch_size=10, rows=30, unit_samples=10)
    assert [ledger.take_unit() for _ in range(4)] == [range(10), range(10, 20), range(20, 30), None]
    ledger.release(1)
    assert ledger.take_unit() is None
    ledger.release(0)
    assert [ledger.take_unit() for _ in range(3)] == [range(30, 40), range(40, 50), None]


@pytest.mark.parametrize(("sample_bytes", "samples"), [(768, 32), (3 * 224 * 224 * 4, 13), (100 * 2**20, 1)])
def test_units_have_a_bounded_size(sample_bytes: int, samples: int) -> None:
    """Small samples are prepared together, large ones alone."""
    assert samples_per_unit(sample_bytes) == samples


def test_two_mappings_see_the_same_memory() -> None:
    """The descriptor may be closed as soon as it is mapped."""
    specs = [ArraySpec(shape=(3,), dtype="<f4"), ArraySpec(shape=(2, 2), dtype="<i8")]
    descriptor = new_memory(specs)
    ours, theirs = map_arrays(specs, descriptor), map_arrays(specs, descriptor)
    os.close(descriptor)
    ours[0][:] = [1, 2, 3]
    ours[1][:] = 7
    assert theirs[0].tolist() == [1, 2, 3]
    assert theirs[1].tolist() == [[7, 7], [7, 7]]
    assert theirs[1].ctypes.data % 64 == 0


def exchange(frame: Frame) -> Frame:
    """Send a frame through a socket pair."""
    left, right = socket.socketpair()
    with left, right:
        send_frame(left, frame)
        return receive_frame(right)


def test_a_frame_comes_out_as_it_went_in() -> None:
    """Message, arrays and a descriptor cross together."""
    arrays: tuple[Array, ...] = (
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.zeros((0, 4), np.float32),
        np.array(3.5, np.float32),
    )
    memory = new_memory([ArraySpec(shape=(1,), dtype="<f4")])
    received = exchange(Frame(message={"kind": "prepared", "x": [1, "ä"]}, arrays=arrays, descriptor=memory))
    assert received.message == {"kind": "prepared", "x": [1, "ä"]}
    for sent, got in zip(arrays, received.arrays, strict=True):
        np.testing.assert_array_equal(got, sent)
        assert got.dtype == sent.dtype
    assert received.descriptor is not None
    assert os.fstat(received.descriptor).st_ino == os.fstat(memory).st_ino
    os.close(received.descriptor)
    os.close(memory)


def test_a_frame_cut_short_is_the_end() -> None:
    """A feeder that dies within a frame is noticed."""
    left, right = socket.socketpair()
    with right:
        left.sendall(b"\x10\x00")
        left.close()
        with pytest.raises(EOFError):
            receive_frame(right)


def test_both_kinds_of_predictions_survive_packing() -> None:
    """Arrays keep their dtypes and shapes, also when nothing was detected."""
    predictions: list[Prediction] = [
        ClassScores(scores=np.arange(3, dtype=np.float32)),
        Detections(
            boxes=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32), labels=np.zeros(0, dtype=np.int64)
        ),
    ]
    kinds, arrays = pack_predictions(predictions)
    first, second = unpack_predictions(kinds, exchange(Frame(message={}, arrays=arrays)).arrays)
    assert isinstance(first, ClassScores)
    assert first.scores.tolist() == [0, 1, 2]
    assert isinstance(second, Detections)
    shapes: list[Any] = [second.boxes.shape, second.scores.shape, second.labels.dtype]
    assert shapes == [(0, 4), (0,), np.int64]
