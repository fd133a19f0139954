"""A database that tests share is as new for each of them, or not given out again."""

from sqlalchemy import create_engine, func, inspect, select, table, text

from db import schema
from db.engine import open_database
from npuq.states import JobState
from tests.services.postgresql import PostgresqlServer
from tests.services.world import World


def _rows(url: str) -> dict[str, int]:
    engine = create_engine(url)
    with engine.connect() as connection:
        names = inspect(connection).get_table_names()
        counts = {
            name: connection.execute(select(func.count()).select_from(table(name))).scalar_one() for name in names
        }
    engine.dispose()
    return counts


def test_nothing_is_left_of_the_test_before(postgresql_server: PostgresqlServer) -> None:
    """Neither rows nor a connection that was left open; what migrations wrote is there."""
    with postgresql_server.database() as first:
        before = _rows(first)
        left_open = open_database(first)
        World(left_open).job(JobState.SUCCEEDED)
        assert _rows(first) != before
    with postgresql_server.database() as second:
        assert second == first
        assert _rows(second) == before
    left_open.dispose()


def test_a_changed_schema_is_not_given_out_again(postgresql_server: PostgresqlServer) -> None:
    """The one that comes next has what the models say."""
    with postgresql_server.database() as first:
        database = open_database(first)
        with database.write() as connection:
            connection.execute(text("ALTER TABLE jobs DISABLE TRIGGER ALL"))
        database.dispose()
    with postgresql_server.database() as second:
        assert second != first
        database = open_database(second)
        assert schema.check(database) == []
        database.dispose()
