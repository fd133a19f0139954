"""The log file that ATC leaves when it is told where: `ASCEND_PROCESS_LOG_PATH/debug/plog/plog-<pid>_<time>.log`."""

import os
from datetime import datetime
from pathlib import Path
from typing import Final

_VARIABLE: Final = "ASCEND_PROCESS_LOG_PATH"
_LEVELS: Final = ("debug", "info", "warning", "error", "null")


def stamp(now: datetime) -> str:
    """Return a time as the Ascend tools print it: to the microsecond, in groups of three digits."""
    return f"{now:%Y-%m-%d-%H:%M:%S}.{now.microsecond // 1000:03d}.{now.microsecond % 1000:03d}"


def write(threshold: str, level: str, text: str, now: datetime) -> None:
    """Append a line when the threshold of `--log` lets it through; without a folder for logs nothing is kept."""
    folder = os.environ.get(_VARIABLE)
    if not folder or _LEVELS.index(level) < _LEVELS.index(threshold):
        return
    path = Path(folder) / "debug" / "plog"
    path.mkdir(parents=True, exist_ok=True)
    pid = os.getpid()
    line = f"[{level.upper()}] GE({pid},atc.bin):{stamp(now)} [emulator/atc.py:1]{pid} main: {text}\n"
    with (path / f"plog-{pid}_{now:%Y%m%d%H%M%S}.log").open("a", encoding="utf-8") as stream:
        stream.write(line)
