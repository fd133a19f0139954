"""Memory that the chip's process and its feeders share, and the bookkeeping of what lies where.

The memory is anonymous (memfd): it has no name that could be left behind, and the kernel frees it with its last user,
however that one ends. The bookkeeping is pure: sample i of an order lies in row `i % rows` of a ring whose length is a
whole number of batches, so every batch is contiguous.
"""

import itertools
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from tasks.protocols import Array

_ALIGNMENT_BYTES: Final = 64
_LEAST_BATCHES: Final = 3
_UNIT_BYTES: Final = 8 * 2**20
_MOST_UNIT_SAMPLES: Final = 32


@dataclass(frozen=True, kw_only=True)
class ArraySpec:
    """Shape and dtype of an array in shared memory."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size_bytes(self) -> int:
        """Return its size, rounded up so that the next array is aligned."""
        plain = int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize
        return -(-plain // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"shape": list(self.shape), "dtype": self.dtype}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read the JSON form."""
        return cls(shape=tuple(data["shape"]), dtype=data["dtype"])

    @classmethod
    def of(cls, array: Array) -> Self:
        """Return what describes an array."""
        return cls(shape=array.shape, dtype=array.dtype.str)


def new_memory(specs: Sequence[ArraySpec]) -> int:
    """Return the descriptor of zeroed anonymous memory for these arrays; the caller closes it."""
    descriptor = os.memfd_create("npuq-batches", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _total_bytes(specs))
    return descriptor


def map_arrays(specs: Sequence[ArraySpec], descriptor: int) -> list[Array]:
    """Return views of shared memory, writable; it is unmapped when the last of them is gone.

    The descriptor stays the caller's, who may close it at once.
    """
    memory = mmap.mmap(descriptor, _total_bytes(specs))
    offsets = itertools.accumulate((spec.size_bytes for spec in specs), initial=0)
    return [np.ndarray(spec.shape, spec.dtype, memory, offset) for spec, offset in zip(specs, offsets, strict=False)]


def _total_bytes(specs: Sequence[ArraySpec]) -> int:
    return max(mmap.PAGESIZE, sum(spec.size_bytes for spec in specs))


def samples_per_unit(sample_bytes: int) -> int:
    """Return how many samples a feeder prepares at a time: about 8 MiB, from 1 to 32."""
    return max(1, min(_MOST_UNIT_SAMPLES, _UNIT_BYTES // sample_bytes))


def ring_rows(*, batch_size: int, unit_samples: int, units_in_flight: int) -> int:
    """Return the length of a ring: whole batches, at least three, and room for all units in flight besides one."""
    wanted = max(_LEAST_BATCHES * batch_size, batch_size + unit_samples * (units_in_flight + 1))
    return -(-wanted // batch_size) * batch_size


class OrderLedger:
    """Which samples of an order may be prepared, which batches are ready, which are released. Pure.

    Samples are counted from the start of the order.

    Args:
        samples: how many.
        batch_size: samples per batch.
        rows: length of the ring, see `ring_rows`.
        unit_samples: samples that a feeder prepares at a time, see `samples_per_unit`.
    """

    def __init__(self, *, samples: int, batch_size: int, rows: int, unit_samples: int) -> None:
        self._samples = samples
        self._batch_size = batch_size
        self._rows = rows
        self._unit_samples = unit_samples
        self._next = 0
        self._released: set[int] = set()
        self._oldest_held = 0
        self._missing = [len(self.samples_of(batch)) for batch in range(self.batches)]

    @property
    def batches(self) -> int:
        """Return the number of batches."""
        return -(-self._samples // self._batch_size)

    def samples_of(self, batch: int) -> range:
        """Return the samples of a batch."""
        return range(batch * self._batch_size, min((batch + 1) * self._batch_size, self._samples))

    def take_unit(self) -> range | None:
        """Return the next samples to prepare; None while there are none or no room for them."""
        unit = range(self._next, min(self._next + self._unit_samples, self._samples))
        if not unit or unit.stop > self._oldest_held * self._batch_size + self._rows:
            return None
        self._next = unit.stop
        return unit

    def prepared(self, unit: range) -> None:
        """Note that these samples are in their rows."""
        for sample in unit:
            self._missing[sample // self._batch_size] -= 1

    def is_ready(self, batch: int) -> bool:
        """Return whether every sample of a batch is in its row."""
        return self._missing[batch] == 0

    def release(self, batch: int) -> None:
        """Note that the rows of a batch may be used again."""
        self._released.add(batch)
        while self._oldest_held in self._released:
            self._oldest_held += 1

    @property
    def all_released(self) -> bool:
        """Return whether every batch was released."""
        return self._oldest_held == self.batches
