"""Running `npu-smi`: one caller per host at a time, with a limit, and a short memory.

The tool does not stand concurrent calls and may hang with a sick driver. Whatever goes wrong is an error that says the
state of the chips is *unknown*; nothing here ever answers "idle" for want of a table. The text is read by
`worker/npu_smi.py`.
"""

import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO, TypeVar, cast

from npuq.errors import ToolMissingError
from worker.npu_smi import (
    TIMEOUT,
    Board,
    ChipHealth,
    NpuSmiError,
    NpuSmiInfo,
    NpuSmiMap,
    parse_board,
    parse_health,
    parse_info,
    parse_map,
)

_LOCK_PROBE_SECONDS: Final = 0.02
_KILL_WAIT_SECONDS: Final = 5.0


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _Remembered:
    answer: object
    until: float


class NpuSmi:
    """`npu-smi` of this host; may be shared by threads.

    Args:
        binary: program, found on PATH when it is a bare name.
        lock_path: file that all callers of this host lock; its folder is made.
        timeout_seconds: limit of one call, and of the wait for another caller's.
        cache_seconds: an answer this young is given again; 0: ask each time.
    """

    def __init__(
        self, binary: str = "npu-smi", *, lock_path: Path, timeout_seconds: float = 20.0, cache_seconds: float = 2.0
    ) -> None:
        self._binary = binary
        self._lock_path = lock_path
        self._timeout_seconds = timeout_seconds
        self._cache_seconds = cache_seconds
        self._remembered: dict[tuple[str, ...], _Remembered] = {}
        self._thread_lock = threading.Lock()

    def info(self) -> NpuSmiInfo:
        """Return the chips and processes.

        Raises:
            ToolMissingError: there is no such program.
            NpuSmiError: it hung, printed no table, or the driver does not answer: the chips' state is unknown.
        """
        return self._ask(["info"], _read_info)

    def map(self) -> NpuSmiMap:
        """Return which (NPU, chip) has which logic id; raises as `info` does."""
        return self._ask(["info", "-m"], parse_map)

    def board(self, npu_id: int, chip_id: int) -> Board:
        """Return what a chip is, with its die id; raises as `info` does, and when the card does not know the query."""
        return self._ask(["info", "-t", "board", "-i", str(npu_id), "-c", str(chip_id)], parse_board)

    def health(self, npu_id: int, chip_id: int) -> ChipHealth:
        """Return a chip's health with the driver's error codes; raises as `board` does."""
        return self._ask(["info", "-t", "health", "-i", str(npu_id), "-c", str(chip_id)], parse_health)

    def _ask(self, arguments: list[str], read: Callable[[str], T]) -> T:
        with self._thread_lock:
            known = self._remembered.get(tuple(arguments))
            if known is not None and time.monotonic() < known.until:
                return cast("T", known.answer)
            answer = read(self._run(arguments))
            until = time.monotonic() + self._cache_seconds
            self._remembered[tuple(arguments)] = _Remembered(answer=answer, until=until)
            return answer

    def _run(self, arguments: list[str]) -> str:
        """Return what the tool prints; its exit code says nothing reliable."""
        with self._only_caller():
            try:
                # A group of its own: the tool may be a script, and all of it has to go when time is up.
                process = subprocess.Popen(
                    [self._binary, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    start_new_session=True,
                )
            except OSError as error:
                raise ToolMissingError(
                    f"cannot run {self._binary}: {error.strerror}; install the Ascend driver (in a container, mount "
                    "/usr/local/bin/npu-smi and the driver's libraries), or put the emulator's bin folder on PATH"
                ) from error
            try:
                return process.communicate(timeout=self._timeout_seconds)[0]
            except subprocess.TimeoutExpired as error:
                raise NpuSmiError(
                    f"npu-smi did not answer within {self._timeout_seconds:g} s: the chips' state is unknown; look at "
                    "the driver with `dmesg`",
                    code=TIMEOUT,
                    detail=_kill(process),
                ) from error

    @contextmanager
    def _only_caller(self) -> Iterator[None]:
        """Hold the host's lock; the kernel frees it when the holder dies."""
        self._lock_path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock_path.open("a") as lock:
            self._wait_for(lock)
            yield

    def _wait_for(self, lock: TextIO) -> None:
        """Lock the file, or raise NpuSmiError.

        Probing, because flock has no limit of its own and a stopped holder keeps it for ever.
        """
        end = time.monotonic() + self._timeout_seconds
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() >= end:
                    raise NpuSmiError(
                        f"another caller of npu-smi has held {self._lock_path} for {self._timeout_seconds:g} s: the "
                        "chips' state is unknown; end it if it hangs",
                        code=TIMEOUT,
                    ) from error
                time.sleep(_LOCK_PROBE_SECONDS)
            else:
                return


def _read_info(text: str) -> NpuSmiInfo:
    info = parse_info(text)
    if info.error is not None:
        raise NpuSmiError(
            f"the driver does not answer ({info.error.dcmi_code}): the chips' state is unknown; reboot after a driver "
            "upgrade, pass /dev/davinci* to the container, put the user into group HwHiAiUser",
            code="npu_smi_driver",
            detail=info.error.text,
        )
    if not info.ok:
        raise NpuSmiError("npu-smi printed processes but no table of chips: the chips' state is unknown")
    return info


def _kill(process: "subprocess.Popen[str]") -> str:
    """End the tool's process group and return what it had printed; a tool stuck in the driver is left behind."""
    os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.communicate(timeout=_KILL_WAIT_SECONDS)[0]
    except subprocess.TimeoutExpired:
        return f"process {process.pid} does not end: it hangs in the driver"
