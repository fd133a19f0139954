"""The schema's life: from empty up, down again, refused when it is another version's, made by two at once."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, select, text

from db import datasets, schema
from db.engine import Database, open_database
from db.migrations import guards_0001
from db.tables import Cluster, JobMove
from npuq.errors import DatabaseError
from npuq.states import JOB_MOVES

#: Guards of the first schema that the earliest databases with it lack.
LATE_GUARDS = {"guard_attempts_deleted", "guard_results_truncated", "guard_metrics_truncated"}


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Database]:
    """Return an empty database, once of each kind."""
    database = open_database(empty_database_url)
    yield database
    database.dispose()


def test_the_models_describe_the_migrated_schema(database: Database) -> None:
    """Tables made by the migrations differ in nothing from the models."""
    assert schema.check(database) == []


def test_a_forgotten_migration_is_noticed(database: Database) -> None:
    """The check sees a column that the models do not have."""
    with database.write() as connection:
        connection.execute(text("ALTER TABLE hosts ADD COLUMN forgotten INTEGER"))
    assert len(schema.check(database)) == 1


def test_up_down_and_up_again(empty: Database) -> None:
    """A downgrade to `base` leaves nothing of ours, and the way up works from there."""
    schema.upgrade(empty)
    schema.downgrade(empty, "base")
    assert set(inspect(empty.engine).get_table_names()) <= {"alembic_version"}
    with empty.read() as connection:
        if empty.dialect == "postgresql":
            left = connection.execute(text("SELECT count(*) FROM pg_proc WHERE proname ~ '^(guard|log)_'"))
        else:
            left = connection.execute(text("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'"))
        assert left.scalar_one() == 0
    schema.upgrade(empty)
    schema.require(empty)
    assert schema.check(empty) == []


def test_datasets_and_results_of_before_are_what_they_were(empty: Database) -> None:
    """A registration of schema 0002 lies in its folder, on every host."""
    schema.upgrade(empty, "0002")
    with empty.write() as connection:
        connection.execute(
            text(
                "INSERT INTO datasets (name, format, root, digest, samples, added_at) "
                "VALUES ('d', 'voc', '/d', 'x', 7, '2026-11-01 00:00:00.000000')"
            )
        )
    schema.upgrade(empty)
    with empty.read() as connection:
        (found,) = datasets.find(connection)
    assert (found.folder_on("h1"), found.size_bytes, found.notes, found.in_store) == ("/d", None, (), False)


def test_guards_that_came_after_the_first_databases_are_put_in_place(empty: Database) -> None:
    """Two databases of schema 0003, one of them made before some guards were, are the same afterwards, both ways."""
    schema.upgrade(empty, "0003")
    whole = _guards(empty)
    late = [guard for guard in guards_0001.GUARDS if guard.name in whole and guard.name in LATE_GUARDS]
    with empty.write() as connection:
        for guard in late:
            for statement in guards_0001.drop(guard, empty.dialect):
                connection.execute(text(statement))
    assert whole - _guards(empty) == {guard.name for guard in late} != set()
    schema.upgrade(empty)
    assert _guards(empty) >= whole
    schema.downgrade(empty, "0003")
    assert _guards(empty) == whole
    schema.downgrade(empty, "base")
    assert _guards(empty) == set()


def _guards(database: Database) -> set[str]:
    query = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
    }[database.dialect]
    with database.read() as connection:
        return set(connection.execute(text(query)).scalars())


def test_upgrading_again_changes_nothing(database: Database) -> None:
    """The second upgrade keeps the identity of the cluster and the table of moves."""
    with database.read() as connection:
        before = connection.execute(select(Cluster.cluster_id)).scalar_one()
    schema.upgrade(database)
    with database.read() as connection:
        assert connection.execute(select(Cluster.cluster_id)).scalar_one() == before
        assert len(connection.execute(select(JobMove.from_state)).all()) == len(JOB_MOVES)


def test_an_empty_database_is_refused(empty: Database) -> None:
    """Nothing works on an empty database, and the refusal says what to do."""
    with pytest.raises(DatabaseError, match="is empty; run: npuq db upgrade") as caught:
        schema.require(empty)
    assert not caught.value.info.retry


def test_revisions_are_those_that_alembic_finds() -> None:
    """They are read off the names of the files, so that no process loads alembic only to ask."""
    known = ScriptDirectory(str(Path(schema.__file__).parent / "migrations"))
    assert schema.revisions() == [script.revision for script in known.walk_revisions()][::-1]
    assert schema.newest_revision() == known.get_current_head()


@pytest.mark.parametrize(
    ("revision", "advice"), [("0000", "made by a newer npuq"), ("9999", "made by a newer npuq: upgrade this")]
)
def test_another_schema_is_refused(sqlite_database: Database, revision: str, advice: str) -> None:
    """A database of a revision that this program does not know is not touched."""
    with sqlite_database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    with pytest.raises(DatabaseError, match=advice):
        schema.require(sqlite_database)


def test_an_older_schema_is_refused_with_the_way_up(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database behind this program's revision has to be upgraded first."""
    monkeypatch.setattr(schema, "newest_revision", lambda: "9000")
    with pytest.raises(DatabaseError, match=r"works on 9000; run: npuq db upgrade"):
        schema.require(sqlite_database)


def _upgrade(url: str, outcomes: "multiprocessing.SimpleQueue[str]") -> None:
    database = open_database(url)
    try:
        schema.upgrade(database)
        outcomes.put("done")
    except Exception as error:  # noqa: BLE001 - the parent asserts on it
        outcomes.put(repr(error))
    finally:
        database.dispose()


def test_two_processes_may_upgrade_at_once(empty_database_url: str) -> None:
    """One migrates, the other waits and finds it done; none of them fails."""
    context = multiprocessing.get_context("spawn")
    outcomes = context.SimpleQueue()
    upgraders = [context.Process(target=_upgrade, args=(empty_database_url, outcomes)) for _ in range(2)]
    for upgrader in upgraders:
        upgrader.start()
    for upgrader in upgraders:
        upgrader.join(30)
        assert upgrader.exitcode == 0
    assert [outcomes.get(), outcomes.get()] == ["done", "done"]
    outcomes.close()
    database = open_database(empty_database_url)
    schema.require(database)
    assert schema.check(database) == []
    database.dispose()
