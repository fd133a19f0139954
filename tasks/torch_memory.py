"""Lets torch keep the memory that it has: its operators give back what the next one asks for again."""

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3
_LARGE_BYTES: Final = 1 << 30


def keep_blocks() -> bool:
    """Have glibc keep freed blocks of up to a gigabyte for the next use, for the rest of this process.

    By itself it gives blocks of more than 32 MiB, an operator's usual output, back to the kernel at once; the next
    operator gets them anew, page by page and filled with zeros: up to a quarter of what an export takes, see
    `python -m benchmarks export`. For processes that end with their work: their memory does not shrink any more.

    Returns:
        Whether it took effect; it is for speed only, and other C libraries than glibc have no such settings.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE_BYTES - 1))
