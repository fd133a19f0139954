"""Connections: one way to read and one way to write, the same on SQLite and PostgreSQL.

SQLite: WAL, `synchronous=FULL`, and `BEGIN IMMEDIATE` for every transaction that may write: a plain BEGIN that turns
into a write fails at once, without waiting, when somebody else wrote in between. PostgreSQL: READ COMMITTED; every
move is one statement that re-checks its condition on the newest row.
"""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from npuq.config import redact
from npuq.errors import ConfigError, DatabaseError

BUSY_TIMEOUT_SECONDS: Final = 10.0
STATEMENT_TIMEOUT_SECONDS: Final = 30
CONNECT_TIMEOUT_SECONDS: Final = 5
_WRITE: Final = "npuq_write"
_TLS_PARAMETERS: Final = ("sslmode", "sslrootcert")
T = TypeVar("T")


class Database:
    """A database and the two kinds of transaction."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def dialect(self) -> str:
        """Return `sqlite` or `postgresql`."""
        return self.engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads; raises DatabaseError when the database cannot be reached."""
        with _translated(self.engine), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that may write; commits at the end, rolls back on any exception."""
        with (
            _translated(self.engine),
            self.engine.connect().execution_options(**{_WRITE: True}) as connection,
            connection.begin(),
        ):
            yield connection

    def transact(self, work: Callable[[Connection], T], *, patience_seconds: float = 30.0) -> T:
        """Run `work` in a write transaction, again after every outage or ambiguous commit, within a limit.

        `work` must be idempotent: it may have been committed although the answer was lost, and then finds its own
        traces the second time.

        Raises:
            DatabaseError: the database stayed away for `patience_seconds`.
        """
        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_delay(patience_seconds),
            wait=wait_random_exponential(multiplier=0.05, max=2.0),
            reraise=True,
        )

        def once() -> T:
            with self.write() as connection:
                return work(connection)

        return retrying(once)

    def dispose(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, DatabaseError) and error.info.retry


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    """Turn an unreachable, busy or full database into our error; what it refuses on principle passes as it is."""
    try:
        yield
    except ssl.SSLError as error:  # a driver lets it through while it connects
        raise DatabaseError(
            f"no encrypted connection to the database {_where(engine)} ({error}); name the authority of its "
            "certificate in sslrootcert, and the host as the certificate does (database_url)",
            retry=not isinstance(error, ssl.SSLCertVerificationError),
        ) from error
    except PoolTimeoutError as error:
        raise DatabaseError(f"too many things at once ask the database {_where(engine)}; it is tried again") from error
    except DBAPIError as error:
        where = _where(engine)
        if _field(error.orig, "C")[:2] in _POSTGRESQL_REFUSALS:
            raise DatabaseError(
                f"the database {where} refuses the connection ({_first_line(error)}); check database_url", retry=False
            ) from error
        if not (error.connection_invalidated or _is_outage(error)):
            raise
        raise DatabaseError(
            f"the database {where} does not answer ({_first_line(error)}); check that it is up and reachable",
        ) from error


def _where(engine: Engine) -> str:
    return redact(engine.url.render_as_string(hide_password=True))


def _translate_broken_sockets(engine: Engine) -> None:
    """Turn what a driver lets through from the socket into our error.

    pg8000 greets a server, and reads the first byte of an answer, outside its own error handling: one that dies or
    falls silent in that moment raises a bare OSError, which SQLAlchemy passes on and no caller expects.
    """

    def silent(error: OSError) -> DatabaseError:
        return DatabaseError(
            f"the database {_where(engine)} does not answer ({type(error).__name__}: {error}); "
            "check that it is up and reachable"
        )

    @event.listens_for(engine, "do_connect")
    def _connect(dialect: Dialect, _record: object, arguments: tuple[Any, ...], options: dict[str, Any]) -> object:
        try:
            return dialect.connect(*arguments, **options)
        except ssl.SSLError:
            raise  # `_translated` says what to mend
        except OSError as error:
            raise silent(error) from error

    @event.listens_for(engine, "handle_error")
    def _translate(context: ExceptionContext) -> None:
        error = context.original_exception
        if isinstance(error, OSError):
            context.is_disconnect = True
            raise silent(error) from error


_SQLITE_OUTAGES: Final = ("locked", "busy", "full", "disk i/o", "unable to open", "readonly", "timeout")
_POSTGRESQL_OUTAGES: Final = frozenset({"08", "40", "53", "55", "57", "58"})
#: A standby that is read-only until it is promoted, and an idle transaction that was ended.
_POSTGRESQL_PASSING: Final = frozenset({"25006", "25P03"})
#: Classes of SQLSTATE: invalid authorisation, no such database.
_POSTGRESQL_REFUSALS: Final = frozenset({"28", "3D"})
_BROKEN_CONNECTION: Final = frozenset({"InterfaceError", "BrokenPipeError", "ConnectionResetError", "TimeoutError"})


def _is_outage(error: DBAPIError) -> bool:
    """Tell an outage (worth another try) from a statement that the database refuses on principle."""
    original = error.orig
    if isinstance(error, OperationalError) and type(original).__module__.startswith("sqlite3"):
        return any(word in str(original).lower() for word in _SQLITE_OUTAGES)
    code = _field(original, "C")
    return (
        type(original).__name__ in _BROKEN_CONNECTION or code[:2] in _POSTGRESQL_OUTAGES or code in _POSTGRESQL_PASSING
    )


def _field(original: BaseException | None, name: str) -> str:
    """Return a field of PostgreSQL's answer (`C`: SQLSTATE, `M`: message), "" for every other error."""
    arguments: Any = getattr(original, "args", ())
    if arguments and isinstance(arguments[0], dict):
        return str(arguments[0].get(name, ""))
    return ""


def _first_line(error: DBAPIError) -> str:
    said = (_field(error.orig, "M") or str(error.orig)).strip()
    return said.splitlines()[0][:200] if said else type(error.orig).__name__


def open_database(url: str) -> Database:
    """Return the database of a SQLAlchemy URL; connects only when used.

    Raises:
        ConfigError: the URL is malformed, or its database is neither SQLite nor PostgreSQL.
    """
    try:
        parsed = make_url(url)
    except Exception as error:
        raise ConfigError(
            f"database_url {redact(url)!r} is not a URL; for example postgresql://user@host/npuq"
        ) from error
    match parsed.get_backend_name():
        case "sqlite":
            return Database(_sqlite(parsed))
        case "postgresql":
            return Database(_postgresql(parsed))
        case other:
            raise ConfigError(f"database_url: {other} is not supported; npuq takes sqlite and postgresql")


def _sqlite(url: URL) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS}, pool_size=2, max_overflow=8)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401 - a DBAPI connection
        connection.isolation_level = None  # the driver must not begin transactions of its own
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "recursive_triggers=ON",  # else REPLACE deletes rows past the guards of deletion
            "mmap_size=0",
            "trusted_schema=OFF",
            f"busy_timeout={int(BUSY_TIMEOUT_SECONDS * 1000)}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _tls(url: URL) -> ssl.SSLContext | None:
    """Return how to encrypt, as libpq's parameters of the URL say; None without them.

    Raises:
        ConfigError: a mode that lets somebody in the middle listen, or certificates that cannot be read.
    """
    mode, root = (url.query.get(name) for name in _TLS_PARAMETERS)
    if mode is None and root is None:
        return None
    if mode not in {None, "verify-full"}:
        raise ConfigError(f"database_url: sslmode={mode} does not check whom it talks to; npuq takes verify-full")
    try:
        return ssl.create_default_context(cafile=None if root is None else str(root))
    except OSError as error:
        raise ConfigError(f"database_url: sslrootcert={root} cannot be read: {error}") from error


def _postgresql(url: URL) -> Engine:
    driver = url if "+" in url.drivername else url.set(drivername="postgresql+pg8000")
    tls = _tls(url)
    engine = create_engine(
        driver.difference_update_query(_TLS_PARAMETERS),
        pool_pre_ping=True,
        pool_size=2,
        max_overflow=8,
        isolation_level="READ COMMITTED",
        connect_args={
            "timeout": STATEMENT_TIMEOUT_SECONDS + CONNECT_TIMEOUT_SECONDS,
            "tcp_keepalive": True,
            **({} if tls is None else {"ssl_context": tls}),
        },
    )

    _translate_broken_sockets(engine)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401 - a DBAPI connection
        cursor = connection.cursor()
        cursor.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT_SECONDS}s'")
        cursor.execute("SET idle_in_transaction_session_timeout = '60s'")
        cursor.execute("SET lock_timeout = '10s'")
        cursor.close()
        connection.commit()

    return engine
