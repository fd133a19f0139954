"""The schema's life: upgrade, check, and the refusal to work on a schema of another version.

Only one process migrates at a time: on PostgreSQL under an advisory lock, on SQLite inside one exclusive transaction.
Each upgrade is all or nothing.

Every process that opens a database asks for its revision, few migrate: alembic is imported where it is used.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, column, func, inspect, select, table
from sqlalchemy.dialects import postgresql, sqlite
from uuid_utils import uuid7

from db.engine import Database
from db.tables import Base, Cluster
from db.types import db_now
from npuq.errors import DatabaseError

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_ADVISORY_LOCK: Final = 0x6E707571  # "npuq"
#: Where alembic keeps a database's revision.
_VERSION: Final = table("alembic_version", column("version_num"))


def revisions() -> list[str]:
    """Return every revision, oldest first: a migration's file is called by its revision and what it brings."""
    return sorted(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def newest_revision() -> str:
    """Return the revision that this code works on."""
    known = revisions()
    if not known:
        raise DatabaseError("this installation of npuq lacks its migrations; install it again", retry=False)
    return known[-1]


def current_revision(database: Database) -> str | None:
    """Return the revision of a database, None for an empty one."""
    with database.read() as connection:
        if not inspect(connection).has_table(_VERSION.name):
            return None
        return connection.execute(select(_VERSION.c.version_num)).scalar()


def _config(connection: Connection) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring a database, empty or older, to a revision; running it twice changes nothing."""
    from alembic import command

    with database.write() as connection:
        if database.dialect == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        command.upgrade(_config(connection), revision)
        _found_cluster(connection)


def downgrade(database: Database, revision: str) -> None:
    """Bring a database back to an older revision (`base`: empty). Data of newer tables is lost."""
    from alembic import command

    with database.write() as connection:
        if database.dialect == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        command.downgrade(_config(connection), revision)


def _found_cluster(connection: Connection) -> None:
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    values = {"id": 1, "cluster_id": str(uuid7()), "epoch": 1, "created_at": db_now()}
    connection.execute(dialect.insert(Cluster).values(values).on_conflict_do_nothing())


def check(database: Database) -> list[str]:
    """Return the differences between a database and the models; empty when they agree."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return [str(difference) for difference in compare_metadata(context, Base.metadata)]


def require(database: Database, *, upgrade: str = "npuq db upgrade") -> None:
    """Raise DatabaseError unless the database has exactly this version's schema; `upgrade` is what a person types."""
    found, wanted = current_revision(database), newest_revision()
    if found == wanted:
        return
    if found is None:
        raise DatabaseError(f"the database is empty; run: {upgrade}", code="schema", retry=False)
    advice = f"run: {upgrade}" if found in revisions() else "it was made by a newer npuq: upgrade this installation"
    raise DatabaseError(
        f"the database has schema {found}, this npuq works on {wanted}; {advice}", code="schema", retry=False
    )
