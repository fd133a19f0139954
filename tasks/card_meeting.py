"""Where the processes on the chips of one card meet: a socket of the leading job, JSON lines both ways.

Every wait has a limit, and a process that dies is noticed at once: the kernel closes its end. The socket is in the
abstract namespace: its name follows from the leading job's id, and it goes with its process. Such a name is known
within one network namespace only: the processes of one launcher share it, two containers do not.
"""

import json
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from npuq.errors import Blame, NpuqError

MAX_LINE_BYTES: Final = 64 * 2**20
LEAD_GONE: Final = "lead_gone"
"""Code of the error of a job whose leading job ended before it had all measurements."""
_KNOCK_SECONDS: Final = 0.1
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid


class CardIncompleteError(NpuqError):
    """Not all chips of the card took part in its measurement, or not at the same time; it is tried again."""

    code = "card_incomplete"
    blame = Blame.HOST
    retry = True


class LeadGoneError(NpuqError):
    """The job that leads the measurement of the card ended without this one's part; it is tried again with it."""

    code = LEAD_GONE
    blame = Blame.HOST
    retry = True


class GoneError(Exception):
    """The other end of a line is closed, silent for too long, or talks nonsense; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long is waited.

    Attributes:
        meet_seconds: for all chips to have the model loaded.
        answer_seconds: for an answer, and for the next word of somebody who is at work.
    """

    meet_seconds: float = 120.0
    answer_seconds: float = 120.0


class Line:
    """One end of a connection."""

    def __init__(self, connection: socket.socket, answer_seconds: float) -> None:
        self._connection = connection
        self._connection.settimeout(answer_seconds)
        self._buffer = b""
        self.heard = time.monotonic()
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self.pid, self.uid, _ = _CREDENTIALS.unpack(credentials)

    def send(self, **message: Any) -> None:  # noqa: ANN401 - JSON values
        """Say something; raises GoneError."""
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise GoneError("it is gone") from error

    def receive(self, seconds: float) -> dict[str, Any]:
        """Return what the other end says next; raises GoneError when it says nothing for so long."""
        deadline = time.monotonic() + seconds
        while True:
            message = self._next()
            if message is not None:
                return message
            left = deadline - time.monotonic()
            if left <= 0 or not self._fill(left):
                raise GoneError(f"it said nothing for {seconds:g} s")

    def poll(self) -> dict[str, Any] | None:
        """Return what the other end has said already, None when that is nothing; raises GoneError."""
        message = self._next()
        while message is None and self._fill(0.0):
            message = self._next()
        return message

    def close(self) -> None:
        """Close this end."""
        self._connection.close()

    def _next(self) -> dict[str, Any] | None:
        line, newline, rest = self._buffer.partition(b"\n")
        if not newline:
            return None
        self._buffer = rest
        try:
            message = json.loads(line)
        except ValueError as error:
            raise GoneError("it talks nonsense") from error
        if not isinstance(message, dict):
            raise GoneError("it talks nonsense")
        return message

    def _fill(self, seconds: float) -> bool:
        if not select.select([self._connection], [], [], seconds)[0]:
            return False
        try:
            more = self._connection.recv(2**16)
        except OSError as error:
            raise GoneError("it is gone") from error
        if not more or len(self._buffer) + len(more) > MAX_LINE_BYTES:
            raise GoneError("it is gone" if not more else "it talks too much")
        self._buffer += more
        self.heard = time.monotonic()
        return True


class Gathering:
    """The leading job's side: who came, by the number of the companion.

    Args:
        lead_id: of the leading job.
        companions: how many others there are.
        patience: how long they are waited for.
        npu_id: of the card; who is on another one, left over from an earlier attempt, is sent away.
    """

    def __init__(self, lead_id: str, companions: int, patience: Patience, npu_id: int | None = None) -> None:
        self._lead_id = lead_id
        self._npu_id = npu_id
        self._companions = companions
        self._patience = patience
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.lines: dict[int, Line] = {}
        self.names: dict[int, str] = {}

    def __enter__(self) -> Self:
        try:
            self._listener.bind(_address(self._lead_id))
        except OSError as error:
            self._listener.close()
            raise CardIncompleteError(f"An earlier attempt of this job has not ended yet: {error}.") from error
        self._listener.listen(self._companions + 1)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for line in self.lines.values():
            line.close()

    def gather(self) -> None:
        """Wait for the others; raises CardIncompleteError when one does not come."""
        deadline = time.monotonic() + self._patience.meet_seconds
        while len(self.lines) < self._companions:
            self._listener.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                connection, _ = self._listener.accept()
            except TimeoutError as error:
                raise CardIncompleteError(
                    f"Only {len(self.lines) + 1} of the card's {self._companions + 1} chips were ready within "
                    f"{self._patience.meet_seconds:g} s; a part of a card is not measured as a card."
                ) from error
            self._welcome(Line(connection, self._patience.answer_seconds))

    def _welcome(self, line: Line) -> None:
        try:
            hello = line.receive(self._patience.answer_seconds) if line.uid == os.getuid() else {}
            number, name = int(hello["companion"]), str(hello["device_id"])
        except (GoneError, KeyError, TypeError, ValueError):
            line.close()
            return
        if not 1 <= number <= self._companions or number in self.lines or hello.get("npu_id") != self._npu_id:
            line.close()
            return
        self.lines[number], self.names[number] = line, name

    def tell(self, **message: Any) -> None:  # noqa: ANN401 - JSON values
        """Say something to all; raises CardIncompleteError when one is gone."""
        for number, line in self.lines.items():
            try:
                line.send(**message)
            except GoneError as error:
                raise self.lost(number, error) from error

    def lost(self, number: int, why: object) -> CardIncompleteError:
        """Return the error of a companion that does not take part any more."""
        return CardIncompleteError(f"The measurement of the card lost the chip {self.names[number]}: {why}.")


def join(lead_id: str, hello: Mapping[str, Any], patience: Patience) -> Line:
    """Return a line to the leading job, once it is there; raises LeadGoneError when it does not come."""
    deadline = time.monotonic() + patience.meet_seconds
    never = threading.Event()
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(_address(lead_id))
            line = Line(connection, patience.answer_seconds)
            line.send(**hello)
        except (OSError, GoneError) as error:
            connection.close()
            if time.monotonic() > deadline:
                raise LeadGoneError(f"The job that leads the measurement did not come: {error}.") from error
            never.wait(_KNOCK_SECONDS)  # it has to load its model, and nothing tells when it has bound its socket
        else:
            if line.uid == os.getuid():
                return line
            line.close()
            raise LeadGoneError("Another user of this host listens where the leading job should.")


def _address(lead_id: str) -> str:
    return f"\0npuq-card-{lead_id}"
