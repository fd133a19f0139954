"""What a command works with: the settings and, opened only when it is used, the fleet.

Turns the commonest surprise, that there is no fleet here yet, into a sentence.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import unquote

import typer

from npuq.errors import DatabaseError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from db.engine import Database
    from npuq.config import Settings

PATIENCE_SECONDS: Final = 15.0
T = TypeVar("T")


class Session:
    """One command's view of the fleet."""

    def __init__(self, settings: "Settings") -> None:
        from npuq.client import Client

        self.settings = settings
        self.client = Client(settings)
        self._flushed = False

    @property
    def database(self) -> "Database":
        """Return the fleet's database.

        Raises:
            DatabaseError: it is a file that is not there, and making an empty one would only hide that.
        """
        if not self.has_database():
            raise DatabaseError(
                f"there is no fleet in {self.settings.home} yet; start one with: npuq up (or try: npuq demo)",
                code="no_fleet",
                retry=False,
            )
        return self.client.database

    def has_database(self) -> bool:
        """Tell whether there is a database to connect to; a server is taken to be there."""
        prefix = "sqlite:///"
        url = self.settings.database
        return not url.startswith(prefix) or Path(unquote(url.removeprefix(prefix))).is_file()

    def deliver_outbox(self) -> None:
        """Send again, quietly and once per command, what the fleet has not been seen to accept."""
        if not self._flushed:
            self._flushed = True
            self.client.flush_outbox()

    @contextmanager
    def read(self) -> Iterator["Connection"]:
        """Open a transaction that only reads; raises DatabaseError when there is no fleet or it is of another age."""
        database = self.database
        self.deliver_outbox()
        with _right_schema(database), database.read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator["Connection"]:
        """Open a transaction that may write; raises DatabaseError as `read` does."""
        database = self.database
        self.deliver_outbox()
        with _right_schema(database), database.write() as connection:
            yield connection

    def transact(self, work: Callable[["Connection"], T]) -> T:
        """Run `work` in a write transaction, again when it lost a race for locks; raises DatabaseError as `read` does.

        For moves that meet the scheduler's and the workers' on the same rows; `work` may run twice.
        """
        database = self.database
        self.deliver_outbox()
        with _right_schema(database):
            return database.transact(work, patience_seconds=PATIENCE_SECONDS)

    def close(self) -> None:
        """Close every connection."""
        self.client.close()


@contextmanager
def _right_schema(database: "Database") -> Iterator[None]:
    """Explain a refused statement by the schema's age, if that is why: looking first would cost every command."""
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError:
        from db import schema

        schema.require(database)
        raise


def settings_of(ctx: typer.Context) -> "Settings":
    """Return the settings, with the flags of the command line; raises ConfigError."""
    from npuq.config import load_settings

    return load_settings(home=ctx.obj)


@contextmanager
def open_session(ctx: typer.Context) -> Iterator[Session]:
    """Open the session of one command."""
    session = Session(settings_of(ctx))
    try:
        yield session
    finally:
        session.close()
