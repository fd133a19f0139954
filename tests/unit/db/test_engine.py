from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from db.engine import Database, open_database
from npuq.errors import ConfigError, DatabaseError


def pragma(database: Database, name: str) -> object:
    """Return the value of a pragma of a fresh connection."""
    with database.read() as connection:
        return connection.execute(text(f"PRAGMA {name}")).scalar()


def test_sqlite_is_durable_and_strict(sqlite_database: Database) -> None:
    """Write-ahead log, full synchronisation and foreign keys hold on every connection."""
    assert pragma(sqlite_database, "journal_mode") == "wal"
    assert pragma(sqlite_database, "synchronous") == 2
    assert pragma(sqlite_database, "foreign_keys") == 1
    assert pragma(sqlite_database, "trusted_schema") == 0


def test_a_writer_locks_before_it_reads(sqlite_database: Database) -> None:
    """Two read-then-write transactions at once: the second waits for the first, none is refused half-way."""
    with sqlite_database.write() as connection:
        connection.execute(text("CREATE TABLE counter (n INTEGER)"))
        connection.execute(text("INSERT INTO counter VALUES (0)"))

    def count() -> None:
        for _ in range(10):
            with sqlite_database.write() as connection:
                found = connection.execute(text("SELECT n FROM counter")).scalar_one()
                connection.execute(text("UPDATE counter SET n = :n"), {"n": found + 1})

    threads = [Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with sqlite_database.read() as connection:
        assert connection.execute(text("SELECT n FROM counter")).scalar_one() == 30


def test_an_exception_rolls_back(sqlite_database: Database) -> None:
    """A transaction is all or nothing."""

    def fail_half_way(connection: Connection) -> None:
        connection.execute(text("DELETE FROM cluster"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sqlite_database.transact(fail_half_way)
    with sqlite_database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM cluster")).scalar_one() > 0


def test_what_the_database_refuses_on_principle_is_not_tried_again(sqlite_database: Database) -> None:
    """A violated constraint passes as it is, at once."""
    calls = []

    def insert(connection: Connection) -> None:
        calls.append(connection)
        connection.execute(text("INSERT INTO cluster SELECT * FROM cluster"))

    with pytest.raises(IntegrityError):
        sqlite_database.transact(insert)
    assert len(calls) == 1


def test_a_database_that_is_away_is_our_error(tmp_path: Path) -> None:
    """A folder in the place of the file, or nobody at the socket, is told in our words."""
    (tmp_path / "folder").mkdir()
    sqlite = open_database(f"sqlite:///{tmp_path / 'folder'}")
    nobody = open_database(f"postgresql://u:hidden@/npuq?unix_sock={tmp_path / 'nobody'}")
    for database in (sqlite, nobody):
        with pytest.raises(DatabaseError, match="does not answer") as caught, database.read() as connection:
            connection.execute(text("SELECT 1"))
        assert "hidden" not in str(caught.value)
        database.dispose()


def test_a_server_that_dies_while_it_is_greeted_is_our_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver lets the broken socket through; it is an outage like any other, and worth another try."""
    database = open_database("postgresql://nobody@127.0.0.1:1/npuq")

    def greet(*_arguments: object, **_options: object) -> object:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(database.engine.dialect, "connect", greet)
    with pytest.raises(DatabaseError, match="does not answer") as caught, database.read():
        pass
    assert caught.value.info.retry


def test_a_postgresql_that_does_not_let_us_in_is_our_error(postgresql_url: str) -> None:
    """An unknown database or user is told in our words, and trying again is not offered."""
    for url in (
        postgresql_url.replace("/test_", "/no_such_"),
        postgresql_url.replace("postgres@", "nobody:hidden@"),
    ):
        database = open_database(url)
        with pytest.raises(DatabaseError, match="refuses the connection") as caught:
            # The server hangs up at once, so that the driver may see a broken connection first; that is tried again.
            database.transact(lambda _connection: None)
        assert not caught.value.info.retry
        assert "hidden" not in str(caught.value)
        database.dispose()


@pytest.mark.parametrize(("url", "advice"), [("nonsense", "is not a URL"), ("mysql://u:secret@h/db", "not supported")])
def test_other_databases_are_refused(url: str, advice: str) -> None:
    """A malformed or foreign URL is a configuration error that does not show the password."""
    with pytest.raises(ConfigError, match=advice) as caught:
        open_database(url)
    assert "secret" not in str(caught.value)


def test_a_wrong_statement_is_not_an_outage(sqlite_database: Database) -> None:
    """A bug of ours is not hidden behind `the database does not answer`."""
    with pytest.raises(DBAPIError, match="no such table"), sqlite_database.read() as connection:
        connection.execute(text("SELECT * FROM nowhere"))


@pytest.mark.parametrize(
    ("query", "advice"),
    [
        ("sslmode=require", "does not check whom it talks to"),
        ("sslmode=prefer", "npuq takes verify-full"),
        ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", "cannot be read"),
    ],
)
def test_encryption_that_protects_from_nobody_is_refused(query: str, advice: str) -> None:
    """Only a mode that checks the server's name and certificate is taken."""
    with pytest.raises(ConfigError, match=advice):
        open_database(f"postgresql://u:secret@h/db?{query}")


def test_an_encrypted_connection_is_not_made_in_the_clear(postgresql_url: str) -> None:
    """A server without TLS is refused where TLS is asked for, and the driver never sees libpq's parameters."""
    joint = "&" if "?" in postgresql_url else "?"
    database = open_database(f"{postgresql_url}{joint}sslmode=verify-full")
    assert "sslmode" not in database.engine.url.query
    with pytest.raises(DatabaseError, match="does not answer"), database.read():
        pass
    database.dispose()
