"""The emulator's own diary: what started and ended on which chip, kept outside npuq's records.

An independent checker compares it with the database, so it must hold what happened, not what npuq believes. Each entry
is one line, appended by one `write` to a file opened for appending: entries of many processes never mix.
"""

import json
import os
import time
from enum import StrEnum
from pathlib import Path
from typing import Any

from emulator.home import Home


class Event(StrEnum):
    """What is noted."""

    SESSION_OPEN = "session_open"
    SESSION_CLOSE = "session_close"
    RUN_START = "run_start"
    RUN_END = "run_end"
    ATC_START = "atc_start"
    ATC_END = "atc_end"
    FAULT = "fault"


def note(home: Home, event: Event, *, device: int | None = None, model: str | None = None, **more: Any) -> None:  # noqa: ANN401 - JSON values
    """Append an entry.

    Args:
        home: whose diary.
        event: what happened.
        device: logic id; None for ATC, which needs no chip.
        model: `stem/sha8` of the OM.
        more: JSON values, for example `batch`, `loop`, `kind` of a fault, `ok` of an end.
    """
    entry = {
        "event": event.value,
        "wall": time.time(),
        "monotonic": time.monotonic(),
        "pid": os.getpid(),
        "device": device,
        "model": model,
        "cwd": _current_folder(),
        **more,
    }
    line = (json.dumps(entry, separators=(",", ":")) + "\n").encode()
    descriptor = os.open(home.diary_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def _current_folder() -> str | None:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        # The folder was removed under a process that still runs; the entry matters more than the place.
        return None


def read(path: Path) -> list[dict[str, Any]]:
    """Return the entries, oldest first; a missing file is an empty diary and a torn last line is dropped.

    Raises:
        ValueError: a line before the last is damaged.
    """
    if not path.exists():
        return []
    whole, _, _torn = path.read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]
