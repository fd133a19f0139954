"""What a child process prints: read line by line from its pipe, cleaned, and handed to the attempt's log.

The chip's runtime says what went wrong on stdout and nowhere else, so the last lines are kept for whoever has to
classify an error. Nothing here decides anything.
"""

import codecs
import os
import re
import threading
from collections import deque

from npuq.log import get_logger
from worker.attempt_log import LogSink

log = get_logger(__name__)

MAX_LINE_CHARACTERS = 8192
TAIL_LINES = 200
#: A line's end that is not output: it says that everything before it is there.
MARKER = re.compile(r"npuq-(?:end|tail)-[0-9a-f]{32}$")
_READ_BYTES = 65536
_UNPRINTABLE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


class LineSplitter:
    """Bytes in, lines out: UTF-8 with replacement; of progress that rewrites its line the last state counts."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that `data` completes, without newlines."""
        *lines, self._rest = (self._rest + self._decode(data)).split("\n")
        if len(self._rest) > MAX_LINE_CHARACTERS:
            self._rest = self._rest[self._rest.rfind("\r") + 1 :]
        if len(self._rest) > MAX_LINE_CHARACTERS:
            lines.append(self._rest)
            self._rest = ""
        return [clean_line(line) for line in lines]

    def finish(self) -> list[str]:
        """Return the unfinished last line, if any."""
        rest, self._rest = self._rest, ""
        return [clean_line(rest)] if rest else []


def clean_line(line: str) -> str:
    """Return the last non-empty state of a line, without terminal control codes."""
    states = [state for state in line.split("\r") if state]
    return _UNPRINTABLE.sub("", states[-1] if states else "")


class ChildOutput:
    """A thread that reads a child's stdout and stderr until the last holder of the pipe is gone.

    Lines that come while no log is attached are kept and open the next one.

    Args:
        name: of the child, for the thread's name.
        pipe: the reading end; closed at the end.
    """

    def __init__(self, name: str, pipe: int) -> None:
        self._pipe = pipe
        self._changed = threading.Condition()
        self._sink: LogSink | None = None
        self._early: deque[str] = deque(maxlen=TAIL_LINES)
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._recent: deque[str] = deque(maxlen=TAIL_LINES)
        self._markers: set[str] = set()
        self._closed = False
        threading.Thread(target=self._read, name=f"{name}-output", daemon=True).start()

    def attach(self, sink: LogSink) -> None:
        """Send what follows to `sink`; the tail begins anew."""
        with self._changed:
            self._sink = sink
            self._tail.clear()
            self._recent.clear()
            self._markers.clear()
            for line in self._early:
                self._take(line)
            self._early.clear()

    def detach(self) -> None:
        """Stop sending."""
        with self._changed:
            self._sink = None

    def wait_for_marker(self, marker: str, timeout_seconds: float) -> bool:
        """Wait until everything printed before `marker` is in the log; False when it did not come."""
        with self._changed:
            self._changed.wait_for(lambda: marker in self._markers or self._closed, timeout_seconds)
            found = marker in self._markers
            self._markers.discard(marker)
            return found

    def wait_closed(self, timeout_seconds: float) -> bool:
        """Wait until nobody can write to the pipe any more."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, timeout_seconds)

    def tail(self) -> str:
        """Return the last lines since `attach`."""
        with self._changed:
            return "\n".join(self._tail)

    def take_recent(self) -> str:
        """Return the last lines since the last call, or since `attach`."""
        with self._changed:
            text = "\n".join(self._recent)
            self._recent.clear()
            return text

    def _read(self) -> None:
        splitter = LineSplitter()
        while data := os.read(self._pipe, _READ_BYTES):
            self._handle(splitter.feed(data))
        self._handle(splitter.finish())
        os.close(self._pipe)
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _handle(self, lines: list[str]) -> None:
        with self._changed:
            for line in lines:
                marker = MARKER.search(line)
                if marker is None or marker.start():
                    self._take(line if marker is None else line[: marker.start()])
                if marker is not None:
                    self._markers.add(marker.group())
                    self._changed.notify_all()

    def _take(self, line: str) -> None:
        line = line[:MAX_LINE_CHARACTERS]
        if self._sink is None:
            self._early.append(line)
            return
        self._tail.append(line)
        self._recent.append(line)
        try:
            self._sink.write(f"{line}\n")
        except OSError as error:  # a full disk costs the log, not the job: unread, the pipe would stop the child
            log.warning("attempt_log_failed", reason=str(error))
            self._sink = None
