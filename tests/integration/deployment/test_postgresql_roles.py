"""The roles that docker/postgres/roles.sh makes: what each must be able to do, and what it must not."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db import datasets, job_queries, schema
from db.engine import Database, open_database
from npuq.errors import DatabaseError
from npuq.states import JobState
from tests.services.deployed_postgresql import PASSWORDS, DeployedPostgresql
from tests.services.world import World

DENIED = "42501"
READ_ONLY = "25006"


@pytest.fixture
def connect(deployed_postgresql: DeployedPostgresql) -> Iterator[Callable[[str], Database]]:
    """Return a way to connect as a role."""
    opened: list[Database] = []

    def as_role(role: str) -> Database:
        opened.append(open_database(deployed_postgresql.url(role)))
        return opened[-1]

    yield as_role
    for database in opened:
        database.dispose()


def refused(database: Database, *statements: str) -> str:
    """Return the SQLSTATE with which a transaction of these statements is refused."""
    with pytest.raises(DBAPIError) as caught:
        run(database, *statements)
    answer: Any = caught.value.orig
    return str(answer.args[0]["C"])


def run(database: Database, *statements: str) -> None:
    """Run statements in one transaction, the database's errors as they are."""
    with database.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_the_owner_makes_the_schema_and_the_fleet_works_in_it(connect: Callable[[str], Database]) -> None:
    """A job goes from the queue to its end, with the guards of the database; a dataset is registered."""
    database = connect("fleet")
    schema.require(database)
    assert schema.check(database) == []
    world = World(database)
    assert world.state(world.job(JobState.SUCCEEDED)) is JobState.SUCCEEDED
    world.transact(datasets.put, name="d", format="imagenet", root="/d", digest="5" * 64, samples=1)
    world.transact(datasets.put_folder, name="d", host="h2", root="/elsewhere")
    assert world.transact(datasets.remove, "d")


@pytest.mark.parametrize(
    "statement",
    [
        *(
            "CREATE TABLE mine (x int)",
            "ALTER TABLE jobs ADD COLUMN x int",
            "DROP TABLE jobs",
            "TRUNCATE results CASCADE",
        ),
        *("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "ALTER TABLE jobs DISABLE TRIGGER ALL"),
        *("CREATE ROLE other LOGIN", "SET ROLE npuq_owner", "CREATE SCHEMA other"),
        *("UPDATE alembic_version SET version_num = '0'", "DELETE FROM alembic_version"),
        *("SELECT pg_read_file('/etc/passwd')", "COPY jobs TO PROGRAM 'cat'"),
    ],
)
def test_the_fleet_may_not_change_how_the_database_is_made(connect: Callable[[str], Database], statement: str) -> None:
    """No DDL, no guard switched off, no other role, no schema version, no file or program of the server."""
    assert refused(connect("fleet"), statement) == DENIED


def test_a_reader_sees_results_and_cannot_write_however_it_tries(connect: Callable[[str], Database]) -> None:
    """Its transactions are read-only; when it lifts that, it has no right to write."""
    reader = connect("reader")
    schema.require(reader)
    with reader.read() as connection:
        job_queries.find(connection)
    for statement in ("DELETE FROM results", "UPDATE jobs SET state = 'queued'", "CREATE TABLE mine (x int)"):
        assert refused(reader, statement) == READ_ONLY
        assert refused(reader, "SET TRANSACTION READ WRITE", statement) == DENIED


def test_a_wrong_password_is_told_without_it(deployed_postgresql: DeployedPostgresql) -> None:
    """The connection is refused for good; the message names the setting."""
    right = deployed_postgresql.url("fleet")
    database = open_database(right.replace(PASSWORDS["fleet"], "wr0ng-one"))
    with pytest.raises(DatabaseError, match="check database_url") as caught, database.read():
        pass
    database.dispose()
    assert not caught.value.info.retry
    assert "wr0ng-one" not in str(caught.value)
