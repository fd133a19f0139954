"""PostgreSQL as the deployment sets it up: passwords on every address, and the roles of `docker/postgres/roles.sh`."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import pg8000.dbapi
from sqlalchemy.engine import URL

from tests.fleet.postgresql import _binaries
from tests.fleet.programs import KeptProgram
from tests.services.waiting import wait_until

ROLES: Final = Path(__file__).parents[2] / "docker" / "postgres" / "roles.sh"
DATABASE: Final = "npuq"
ADMINISTRATOR: Final = "postgres"
PASSWORDS: Final = {"owner": 'owner\'s "own"', "fleet": "correct-horse-fleet", "reader": "correct-horse-reader"}
LIMIT_SECONDS: Final = 60.0
_NOBODY: Final = 65534


class DeployedPostgresql:
    """A cluster on a port of 127.0.0.1 with the three roles and an empty database."""

    def __init__(self) -> None:
        self._binaries = _binaries()
        self._folder = Path(tempfile.mkdtemp(prefix="npuq-dpg-"))
        self._folder.chmod(0o755)
        self._data = self._folder / "data"
        self._data.mkdir(mode=0o700)
        # PostgreSQL refuses to be root.
        self._system_user = _NOBODY if os.getuid() == 0 else None
        if self._system_user is not None:
            os.chown(self._data, self._system_user, -1)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._environment = {"LC_ALL": "C", "PATH": f"{self._binaries}{os.pathsep}{os.environ['PATH']}"}
        self._program = self._prepared()
        try:
            self._program.start()
            wait_until(self._answers, "PostgreSQL answers")
            self._run("createdb", "--host", str(self._data), "--username", ADMINISTRATOR, DATABASE)
            self._make_roles()
        except BaseException:
            self.close()
            raise

    def url(self, role: str, *, port: int | None = None, **options: str) -> str:
        """Return the SQLAlchemy URL for `npuq_<role>`, over TCP as another host has it."""
        url = URL.create(
            "postgresql+pg8000",
            username=f"npuq_{role}",
            password=PASSWORDS[role],
            host="localhost" if options else "127.0.0.1",
            port=port or self.port,
            database=DATABASE,
            query=options,
        )
        return url.render_as_string(hide_password=False)

    def _prepared(self) -> KeptProgram:
        initdb = ["--username", ADMINISTRATOR, "--auth-local=trust", "--auth-host=scram-sha-256", "--data-checksums"]
        self._run("initdb", "--pgdata", str(self._data), *initdb, "--no-sync", "--no-instructions")
        settings = [f"unix_socket_directories={self._data}", "listen_addresses=127.0.0.1", f"port={self.port}"]
        settings += ["fsync=off", "shared_buffers=64MB"]
        command = [str(self._binaries / "postgres"), "-D", str(self._data)]
        command += [part for setting in settings for part in ("-c", setting)]
        log = self._folder / "log"
        return KeptProgram("postgresql", command, self._environment, log, system_user=self._system_user)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._binaries / program), *arguments],
            env=self._environment | {"PGPORT": str(self.port)},
            cwd="/",
            user=self._system_user,
            check=True,
            capture_output=True,
            timeout=LIMIT_SECONDS,
        )

    def _answers(self) -> bool:
        if not self._program.alive:
            raise RuntimeError(self._program.log.read_text("utf-8", errors="replace")[-2000:])
        try:
            path = self._data / f".s.PGSQL.{self.port}"
            pg8000.dbapi.connect(ADMINISTRATOR, unix_sock=str(path), database=ADMINISTRATOR).close()
        except (pg8000.dbapi.Error, OSError):
            return False
        return True

    def _make_roles(self) -> None:
        """Run the deployment's script, as the image of PostgreSQL does when the database is made."""
        surroundings = {"POSTGRES_USER": ADMINISTRATOR, "POSTGRES_DB": DATABASE, "PGHOST": str(self._data)}
        surroundings |= {f"NPUQ_{role.upper()}_PASSWORD": password for role, password in PASSWORDS.items()}
        subprocess.run(
            [str(ROLES)],
            env=self._environment | surroundings | {"PGPORT": str(self.port)},
            check=True,
            capture_output=True,
            timeout=LIMIT_SECONDS,
        )

    def close(self) -> None:
        """End the server and remove its data."""
        self._program.stop(10.0, signal.SIGINT)
        shutil.rmtree(self._folder)
