"""JSON values as lines over a socket: how a worker and its child process talk.

Each side trusts the other to be npuq, not to be healthy: every wait has a limit, every line a greatest length.
"""

import json
import select
import socket
import threading
import time
from typing import Any

MAX_LINE_BYTES = 32 * 2**20
_READ_BYTES = 65536


class ChannelClosedError(Exception):
    """The other side is gone, or no longer speaks the protocol."""


class JsonLines:
    """One end of a channel. `send` is safe for many threads, `receive` belongs to one."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._sending = threading.Lock()
        self._buffer = bytearray()

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; raises ChannelClosedError."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        try:
            with self._sending:
                self._channel.sendall(line)
        except OSError as error:
            raise ChannelClosedError(f"cannot send: {error}") from error

    def receive(self, timeout_seconds: float | None = None) -> dict[str, Any]:
        """Wait for one message.

        Args:
            timeout_seconds: longest wait; None waits until the other side sends or is gone.

        Raises:
            TimeoutError: nothing came in time.
            ChannelClosedError: the other side is gone, or sent what is not a message.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE_BYTES:
                raise ChannelClosedError(f"a message of more than {MAX_LINE_BYTES} bytes")
            self._fill(deadline)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return _parse(line)

    def close(self) -> None:
        """Close this end; the other side sees the end of the stream. Never blocks."""
        try:
            self._channel.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other side was first
        finally:
            self._channel.close()

    def _fill(self, deadline: float | None) -> None:
        wait_seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            if not _readable(self._channel, wait_seconds):
                raise TimeoutError("no message in time")
            data = self._channel.recv(_READ_BYTES)
        except (ConnectionError, ValueError) as error:  # ValueError: closed on this side
            raise ChannelClosedError(f"cannot receive: {error}") from error
        if not data:
            raise ChannelClosedError("the other side is gone")
        self._buffer += data


def _readable(channel: socket.socket, wait_seconds: float | None) -> bool:
    poller = select.poll()  # unlike select, not bound to descriptors below 1024
    poller.register(channel, select.POLLIN)
    return bool(poller.poll(None if wait_seconds is None else wait_seconds * 1000))


def _parse(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError as error:
        raise ChannelClosedError("a line that is not JSON") from error
    if not isinstance(message, dict):
        raise ChannelClosedError("a line that is not a JSON object")
    return message
