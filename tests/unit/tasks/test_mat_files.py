"""MAT-files are read by scipy once they are what they say; anything else is refused before it can do harm."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from tasks import mat_files
from tasks.protocols import Array


def column(*items: Any) -> Array:
    """Return a cell array (N, 1)."""
    cells = np.empty((len(items), 1), dtype=object)
    for place, item in enumerate(items):
        cells[place, 0] = item
    return cells


def mat(*, compressed: bool = False, **variables: Any) -> bytes:
    stream = io.BytesIO()
    savemat(stream, variables, do_compression=compressed)
    return stream.getvalue()


LISTS = column(column("one", "eleven"), column(np.array([[1, 2], [3, 4]], dtype=np.int32), np.empty((0, 1), np.uint8)))


@pytest.mark.parametrize("compressed", [False, True])
def test_lists_of_lists_come_back(compressed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Text, numbers, and nothing."""
    found = mat_files.read(mat(lists=LISTS, other=np.ones(3), compressed=compressed), "lists")
    assert list(found) == ["lists"]
    texts, arrays = found["lists"].ravel()
    assert [cell.item() for cell in texts.ravel()] == ["one", "eleven"]
    assert arrays[0, 0].tolist() == [[1, 2], [3, 4]]
    assert arrays[1, 0].shape == (0, 1)


def test_damage_never_reaches_scipy() -> None:
    """One byte is enough to make its reader leave the process; here a thousand go wrong."""
    content = mat(lists=LISTS)
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(1000):
        changed = bytearray(content)
        changed[int(generator.integers(124, len(content)))] = int(generator.integers(256))
        try:
            mat_files.read(bytes(changed), "lists")
        except ValueError:
            refused += 1
    assert refused > 300


def test_shortened_file_is_refused() -> None:
    """Wherever it ends."""
    content = mat(lists=LISTS)
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"cut short|larger|no MAT-file|has no lists"):
            mat_files.read(content[:length], "lists")


def patched(content: bytes, before: bytes, after: bytes) -> bytes:
    assert content.count(before) == 1
    return content.replace(before, after)


def cut_short() -> bytes:
    content = mat(lists=LISTS, compressed=True)
    inflated = zlib.decompress(content[136:])
    packed = zlib.compress(inflated)[:-5]
    return content[:128] + struct.pack("<II", 15, len(packed)) + packed


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: mat(lists=column({"a": 1})), "something else than cells, text and numbers"),
        (lambda: mat(lists=np.array([1j])), "something else than cells, text and numbers"),
        (lambda: mat(lists=column(column(column(column(1))))), "something else than cells, text and numbers"),
        (lambda: mat(other=1), "it has no lists"),
        (lambda: mat(lists=LISTS) + mat(lists=LISTS)[128:], "it has lists twice"),
        (lambda: mat(lists=LISTS).replace(b"\x00\x01IM", b"\x00\x02IM", 1), "saved with -v7.3; save it with -v7"),
        (lambda: b"\x89HDF\r\n" * 60, "no MAT-file of level 5"),
        (lambda: patched(mat(lists=1), struct.pack("<ii", 1, 1), struct.pack("<ii", -1, 1)), "negative length"),
        (lambda: patched(mat(lists=1), struct.pack("<ii", 1, 1), struct.pack("<ii", 3, 1)), "more or less data"),
        (cut_short, "a variable is cut short"),
    ],
)
def test_what_is_wrong_is_said(make: Callable[[], bytes], said: str) -> None:
    """Objects, complex numbers, cells too deep; files of another kind; numbers that do not add up."""
    with pytest.raises(ValueError, match=said):
        mat_files.read(make(), "lists")


def test_little_that_becomes_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes can inflate to more than there is memory."""
    monkeypatch.setattr(mat_files, "MAX_BYTES", 10_000)
    with pytest.raises(ValueError, match="too large"):
        mat_files.read(mat(lists=np.zeros(100_000), compressed=True), "lists")
