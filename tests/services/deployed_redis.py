"""Redis as `docker/redis/start.sh` starts it, on a Unix socket in a folder of its own: the script, not a copy of it."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli.fleet import broker_server
from npuq.errors import ToolMissingError
from tests.services.missing import missing
from tests.services.waiting import wait_until

START: Final = Path(__file__).parents[2] / "docker" / "redis" / "start.sh"
PASSWORD: Final = "correct-horse-redis"
USER: Final = "npuq"
STOPPED_WITHIN_SECONDS: Final = 10.0
#: Somebody who may read what the server refused to whom, and nothing else.
_OBSERVER: Final = f"user observer on >{PASSWORD} -@all +acl|log +client|setinfo"


class DeployedRedis:
    """One server with the deployment's user, the default user off."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="npuq-dr-"))
        self.socket = self._folder / "r.sock"
        self._start()
        wait_until(self._answers, "Redis answers")

    def _start(self) -> None:
        try:
            binary = broker_server._binary()
        except ToolMissingError as error:
            missing(str(error))
        programs = self._folder / "bin"
        programs.mkdir()
        (programs / "redis-server").symlink_to(binary)
        script = self._folder / "start.sh"
        # The image's folders; everything else is what the image runs.
        text = START.read_text().replace("/run/redis", str(self._folder)).replace("/data", str(self._folder))
        script.write_text(text.replace("\nACL\n", f"\n{_OBSERVER}\nACL\n"))
        environment = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "NPUQ_REDIS_PASSWORD": PASSWORD}
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", str(script), "--port", "0", "--unixsocket", str(self.socket)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def client(self, user: str | None = USER, password: str | None = PASSWORD) -> "redis.Redis":
        """Return a client; the caller closes it."""
        once = Retry(NoBackoff(), 0)  # a refused password is no reason to ask again
        return redis.Redis(unix_socket_path=str(self.socket), username=user, password=password, retry=once)

    def refusals(self) -> list[str]:
        """Return what the server refused to whom, by its own log."""
        with self.client("observer") as client:
            log: Any = client.acl_log()
        return [f"{entry['username']}: {entry['reason']} {entry['object']}" for entry in log]

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError((self._folder / "log").read_text())
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.exceptions.ConnectionError:
                return False

    def close(self) -> None:
        """End the server and remove what it wrote."""
        self._process.kill()
        self._process.wait(STOPPED_WITHIN_SECONDS)
        shutil.rmtree(self._folder)
