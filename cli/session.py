"""What a command works with: the settings and, opened only when it is used, the fleet.

Turns the commonest surprise, that there is no fleet here yet, into a sentence.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import typer

from npuq.errors import DatabaseError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from db.engine import Database
    from npuq.config import Settings
    from npuq.specs import RunSpec

NO_FLEET: Final = "no_fleet"  #: code of the error that says that there is nothing here yet
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
        if not self.client.has_database():
            raise self._no_fleet()
        return self.client.database

    def _no_fleet(self) -> DatabaseError:
        if self.embedded:
            told = f"there is no fleet in {self.settings.home} yet; start one with: npuq up (or try: npuq demo)"
        else:
            told = "the database that database_url names is empty; run: npuq db upgrade"
        return DatabaseError(told, code=NO_FLEET, retry=False)

    @property
    def embedded(self) -> bool:
        """Tell whether the database is that of this home, which `npuq up` makes and upgrades."""
        return self.settings.database_url is None

    def make_database(self) -> bool:
        """Make the database of this home, as `npuq up` would; False when it is there, or configured elsewhere."""
        from db import schema

        if not self.embedded or (self.client.has_database() and schema.current_revision(self.client.database)):
            return False
        schema.upgrade(self.client.database)
        return True

    def waiting(self) -> "list[RunSpec]":
        """Return what this machine submitted and the fleet has not been seen to accept, oldest first."""
        self.deliver_outbox()
        return self.client.waiting()

    def deliver_outbox(self) -> None:
        """Send again, quietly and once per command, what the fleet has not been seen to accept."""
        if not self._flushed:
            self._flushed = True
            self.client.flush_outbox()

    def keep_outbox(self) -> None:
        """Send nothing of the outbox in this command."""
        self._flushed = True

    @contextmanager
    def read(self) -> Iterator["Connection"]:
        """Open a transaction that only reads; raises DatabaseError when there is no fleet or it is of another age."""
        database = self.database
        self.deliver_outbox()
        with self._right_schema(database), database.read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator["Connection"]:
        """Open a transaction that may write; raises DatabaseError as `read` does."""
        database = self.database
        self.deliver_outbox()
        with self._right_schema(database), database.write() as connection:
            yield connection

    def transact(self, work: Callable[["Connection"], T]) -> T:
        """Run `work` in a write transaction, again when it lost a race for locks; raises DatabaseError as `read` does.

        For moves that meet the scheduler's and the workers' on the same rows; `work` may run twice.
        """
        database = self.database
        self.deliver_outbox()
        with self._right_schema(database):
            return database.transact(work, patience_seconds=PATIENCE_SECONDS)

    @contextmanager
    def _right_schema(self, database: "Database") -> Iterator[None]:
        """Explain a refused statement by the schema's age, if that is why: looking first would cost every command."""
        from sqlalchemy.exc import DBAPIError

        try:
            yield
        except DBAPIError as refused:
            from db import schema

            if schema.current_revision(database) is None:
                raise self._no_fleet() from refused
            if self.embedded:
                schema.require(database, upgrade="npuq down && npuq up")
            schema.require(database)
            raise

    def close(self) -> None:
        """Close every connection."""
        self.client.close()


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
