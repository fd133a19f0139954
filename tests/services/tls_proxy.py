"""TLS in front of a server that was built without it: what it sends and gets is encrypted up to here."""

import socket
import ssl
import threading
from contextlib import closing, suppress
from types import TracebackType
from typing import Final, Self

from tests.services.certificates import Certificates

PIECE_BYTES: Final = 65_536
CLOSED_WITHIN_SECONDS: Final = 10.0
#: The first message of a PostgreSQL client that wants TLS, and the answer that lets it begin.
SSL_REQUEST: Final = bytes.fromhex("0000000804d2162f")
SSL_WELCOME: Final = b"S"


class TlsProxy:
    """Takes connections on a port of 127.0.0.1 and passes them on in plain; use it as a context manager.

    Args:
        certificates: of this server.
        upstream: a port of 127.0.0.1, or the path of a Unix socket.
        postgresql: the client asks for TLS in PostgreSQL's own way first.
    """

    def __init__(self, certificates: Certificates, upstream: int | str, *, postgresql: bool = False) -> None:
        self._context = certificates.server_context()
        self._upstream = upstream
        self._postgresql = postgresql
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.port: int = self._listener.getsockname()[1]
        self.refused = 0
        """Connections that ended before they were encrypted."""

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for opened in list(self._open):
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()
        for thread in list(self._threads):
            thread.join(CLOSED_WITHIN_SECONDS)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            self._open.append(client)
            self._start(self._serve, client)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]  # our own methods
        self._threads.append(thread)
        thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if self._postgresql:
                if client.recv(len(SSL_REQUEST), socket.MSG_WAITALL) != SSL_REQUEST:
                    raise ConnectionError("a client that does not ask for TLS")
                client.sendall(SSL_WELCOME)
            encrypted = self._context.wrap_socket(client, server_side=True)
        except OSError:
            self.refused += 1
            client.close()
            return
        server = self._connect()
        self._open += [encrypted, server]
        self._start(_pump, server, encrypted)
        _pump(encrypted, server)

    def _connect(self) -> socket.socket:
        if isinstance(self._upstream, int):
            return socket.create_connection(("127.0.0.1", self._upstream))
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._upstream)
        return server


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on until either side ends, then end the other."""
    with suppress(OSError, ssl.SSLError), closing(target):
        while piece := source.recv(PIECE_BYTES):
            target.sendall(piece)
        target.shutdown(socket.SHUT_RDWR)
