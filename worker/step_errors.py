"""Any exception of a step as an `ErrorInfo`: what npuq raised on purpose as it is, the rest by who is to blame."""

import errno
import traceback

from npuq.errors import MAX_DETAIL_CHARACTERS, Blame, ErrorInfo, NpuqError

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def error_info(error: Exception) -> ErrorInfo:
    """Return the value form of an exception.

    What nobody foresaw is blamed on the host: it is a fault of npuq or of this installation, neither the person's nor
    the chip's, so it uses up the budget for infrastructure and may work elsewhere.
    """
    if isinstance(error, NpuqError):
        return error.info
    if isinstance(error, MemoryError):
        return _host_trouble("host_memory", "The host ran out of memory; lower its number of slots or feeders.", error)
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return _host_trouble("host_disk_full", f"A disk of the host is full ({error}); free some space.", error)
    return _host_trouble("internal", f"Unexpected {type(error).__name__}: {error}. Please report this.", error)


def _host_trouble(code: str, message: str, error: Exception) -> ErrorInfo:
    detail = "".join(traceback.format_exception(error))[-MAX_DETAIL_CHARACTERS:]
    return ErrorInfo(code=code, blame=Blame.HOST, message=message, retry=True, detail=detail)
