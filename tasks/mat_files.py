"""Reads lists of lists from MATLAB's MAT-files of level 5, by scipy, which gets nothing that was not looked through.

scipy's reader believes what a file says of its own sizes, and a byte that went wrong can end the whole process. So each
element of the variables that are wanted is held against the space that it has, and scipy gets these variables alone,
inflated. What they may hold is cells, text and numbers, nothing that stands for code or for objects.

Layout: "MAT-File Format" of The MathWorks, version 5. An element is a tag (kind, bytes) and its data, filled up to
eight bytes; short data stand in the tag itself.
"""

import io
import math
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from npuq.errors import ToolMissingError

if TYPE_CHECKING:
    from tasks.protocols import Array

#: Inflated, all variables together; far above what a list of images needs.
MAX_BYTES: Final = 256 * 2**20

_HEADER_BYTES: Final = 128
_TEXT: Final = b"MATLAB 5.0 MAT-file"
_ORDERS: Final = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}  # version 0x0100 and the mark, by order of bytes
_HDF5: Final = (b"\x00\x02IM", b"\x02\x00MI")
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_NUMBER_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
_LETTER_BYTES: Final = {2: 1, 4: 2, 16: 1, 17: 2, 18: 4}
_CELL_CLASS: Final = 1
#: Class of an array -> kind of its data -> bytes of an item: text, then numbers from double to uint64.
_CLASSES: Final = {4: _LETTER_BYTES, **dict.fromkeys(range(6, 16), _NUMBER_BYTES)}
_COMPLEX: Final = 0x0800
_AXES: Final = (2, 3, 4)
_DEPTH: Final = 2  # cells within cells


class _Element(NamedTuple):
    """Where an element's data are, and where the next element begins."""

    kind: int
    start: int
    size: int
    end: int


def read(content: bytes, *names: str) -> dict[str, "Array"]:
    """Return variables of a file.

    Args:
        content: of the file.
        names: of the variables: cell arrays, each cell an array of numbers or text or again a cell array of these.

    Raises:
        ValueError: it is no such file, damaged, lacks a variable, or one has something else in it.
        ToolMissingError: scipy is not installed.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ToolMissingError(f"Reading .mat files: {error}. Install it: pip install 'npuq[worker]'.") from error
    order = _byte_order(content)
    chosen: dict[str, bytes] = {}
    for data in _variables(content, order):
        name = _name(data, order)
        if name in chosen:
            raise ValueError(f"it has {name} twice")
        if name in names:
            _check(data, _element(data, 0, len(data), order), order, depth=_DEPTH)
            chosen[name] = data
    missing = [name for name in names if name not in chosen]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}")
    header = _TEXT.ljust(_HEADER_BYTES - 12) + bytes(8) + content[_HEADER_BYTES - 4 : _HEADER_BYTES]
    found = loadmat(io.BytesIO(header + b"".join(chosen.values())))
    return {name: found[name] for name in names}


def _byte_order(content: bytes) -> str:
    """Return the order as `struct` writes it."""
    mark = content[_HEADER_BYTES - 4 : _HEADER_BYTES]
    if mark in _HDF5:
        raise ValueError("it was saved with -v7.3; save it with -v7")
    if mark not in _ORDERS:
        raise ValueError("it is no MAT-file of level 5")
    return _ORDERS[mark]


def _variables(content: bytes, order: str) -> Iterator[bytes]:
    """Yield each variable as an element, inflated."""
    at, room = _HEADER_BYTES, MAX_BYTES
    while at < len(content):
        element = _element(content, at, len(content), order)
        if element.kind == _COMPRESSED:
            data = _inflated(content[element.start : element.start + element.size], room)
            at = element.start + element.size  # these are not filled up
        else:
            data = content[at : element.end]
            at = element.end
        room -= len(data)
        yield data


def _inflated(data: bytes, room: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        inflated = inflater.decompress(data, max(room, 1))
    except zlib.error as error:
        raise ValueError(f"a variable cannot be inflated: {error}") from error
    if not inflater.eof:
        raise ValueError("a variable is cut short, or too large")
    return inflated


def _name(data: bytes, order: str) -> str:
    outer = _element(data, 0, len(data), order)
    if outer.kind != _MATRIX:
        raise ValueError("it has something between its variables")
    name = _header(data, outer, order)[2]
    return data[name.start : name.start + name.size].decode("latin-1")


def _header(data: bytes, matrix: _Element, order: str) -> tuple[int, int, _Element]:
    """Return an array's flags with its class, how many items it has, and the element of its name."""
    stop = matrix.start + matrix.size
    flags = _element(data, matrix.start, stop, order)
    axes = _element(data, flags.end, stop, order)
    name = _element(data, axes.end, stop, order)
    if (flags.kind, flags.size, axes.kind, name.kind) != (_UINT32, 8, _INT32, _INT8):
        raise ValueError("an array does not begin as one")
    if axes.size % 4 or axes.size // 4 not in _AXES:
        raise ValueError("an array has an odd number of axes")
    lengths = struct.unpack_from(f"{order}{axes.size // 4}i", data, axes.start)
    if min(lengths) < 0:
        raise ValueError("an array has an axis of negative length")
    return int(struct.unpack_from(f"{order}I", data, flags.start)[0]), math.prod(lengths), name


def _check(data: bytes, matrix: _Element, order: str, *, depth: int) -> None:
    """Raise ValueError unless an array is what it says, and fills its space."""
    if matrix.kind != _MATRIX:
        raise ValueError("a cell holds no array")
    if matrix.size == 0:  # so an empty cell may be written
        return
    flags, count, name = _header(data, matrix, order)
    stop, array_class = matrix.start + matrix.size, flags & 0xFF
    if array_class == _CELL_CLASS and depth > 0:
        at = name.end
        for _ in range(count):  # ends when the space does
            cell = _element(data, at, stop, order)
            _check(data, cell, order, depth=depth - 1)
            at = cell.end
    elif array_class in _CLASSES and not flags & _COMPLEX:
        values = _element(data, name.end, stop, order)
        if values.size != count * _CLASSES[array_class].get(values.kind, math.nan):
            raise ValueError("an array has more or less data than items")
        at = values.end
    else:
        raise ValueError("it has something else than cells, text and numbers")
    if at != stop:
        raise ValueError("an array does not fill its space")


def _element(data: bytes, at: int, stop: int, order: str) -> _Element:
    """Return the element at a place; raises ValueError when it goes beyond `stop`."""
    if at + 8 > stop:
        raise ValueError("an element is cut short")
    kind, size = struct.unpack_from(f"{order}II", data, at)
    if kind >> 16:
        element = _Element(kind=kind & 0xFFFF, start=at + 4, size=kind >> 16, end=at + 8)
        inside = element.start + element.size <= element.end
    else:
        element = _Element(kind=kind, start=at + 8, size=size, end=min(at + 8 + size + -size % 8, stop))
        inside = element.start + element.size <= stop
    if not inside:
        raise ValueError("an element is larger than its space")
    return element
