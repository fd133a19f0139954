"""Files that the pipeline writes: BIN, NPY and TXT as the C++ of `aclruntime` does, which is not as `ais_bench` does.

In TXT, numbers have six significant digits, float16 is shown as the integers of its bits, and 8-bit integers as
characters. In NPY, float16 becomes uint16.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from emulator.acl_device import print_line
from emulator.acl_tensors import Array


def save(path_without_ending: str, output: Array, out_format: str) -> None:
    """Write an output as `BIN`, `NPY` or `TXT`; another format is BIN. What cannot be written is only printed."""
    write, ending = {"NPY": (_write_npy, ".npy"), "TXT": (_write_txt, ".txt")}.get(out_format, (_write_bin, ".bin"))
    path = Path(path_without_ending + ending)
    try:
        write(path, output)
    except OSError:
        print_line(f"[ERROR] {path} save failed\n")


def _write_bin(path: Path, output: Array) -> None:
    path.write_bytes(output.tobytes())


def _write_npy(path: Path, output: Array) -> None:
    np.save(path, _bits(output), allow_pickle=False)


def _write_txt(path: Path, output: Array) -> None:
    values = _bits(output)
    show = _shown(values.dtype)
    rows = values.reshape(-1, values.shape[-1] if values.ndim else 1)
    path.write_bytes(b"".join(b"".join(show(value) + b" " for value in row) + b"\n" for row in rows))


def _bits(output: Array) -> Array:
    return output.view(np.uint16) if output.dtype == np.float16 else output


def _shown(dtype: "np.dtype[Any]") -> Callable[[Any], bytes]:
    """Return how C++ streams show a value."""
    if dtype.kind in "iu" and dtype.itemsize == 1:
        return lambda value: bytes([int(value) % 256])
    if dtype.kind == "f":
        return lambda value: f"{float(value):g}".encode()
    return lambda value: str(int(value)).encode()
