"""Any exception of a step as an `ErrorInfo`: what npuq raised on purpose as it is, the rest by who is to blame.

And as text for the attempt's log, which must say how the attempt ended without the database beside it.
"""

import errno
import traceback

from npuq.errors import MAX_DETAIL_CHARACTERS, Blame, ErrorInfo, NpuqError

SHOWN_FRAMES = 5
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


def origin(error: BaseException) -> str:
    """Return where an exception came from, for a log: its last frames, and those of the exceptions that caused it.

    Not what those say: an error of ours keeps of it what is true here (torch's advice on unsafe loading is not).
    """
    lines: list[str] = []
    for cause in _chain(error):
        frames = traceback.extract_tb(cause.__traceback__)[-SHOWN_FRAMES:]
        lines += [f"caused by {type(cause).__name__}"] if cause is not error else []
        lines += [f"  at {frame.filename}:{frame.lineno} in {frame.name}" for frame in reversed(frames)]
    return "\n".join(lines)


def _chain(error: BaseException) -> list[BaseException]:
    """Return an exception and what caused it, each once: a chain may lead back to itself (`raise error from error`)."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and not any(cause is seen for seen in chain):
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return chain


def log_text(error: ErrorInfo) -> str:
    """Return an error as the end of an attempt's log: its sentence, then its detail."""
    lines = [f"error: {error.message} ({error.code}, to blame: {error.blame})"]
    lines += [f"  | {line}" for line in error.detail.rstrip().splitlines()]
    return "".join(f"{line}\n" for line in lines)
