"""What every test may ask for: a database of either kind, Redis, settings, and rows to begin with."""

import gc
import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from db import schema
from db.engine import Database, open_database
from npuq.config import Settings, Timing
from tests.services import postgresql
from tests.services.postgresql import PostgresqlServer
from tests.services.redis_server import RedisServer
from tests.services.world import World

# A shell that runs the tests in the background has them ignore Ctrl-C, and so would every program that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What thousands of tests consist of is no garbage: the collector looks seldom, and past what was collected.
gc.set_threshold(20_000)

# Tests import torch and numpy themselves: threads are to sleep while they wait, as `tasks.torch_threads` has them, and
# numpy needs none, as in `worker.interpreter`.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The same examples at every change, without a clock: two busy cores are no reason to fail.
hypothesis.settings.register_profile("change", derandomize=True, database=None, deadline=None, max_examples=40)
hypothesis.settings.register_profile("deep", deadline=None, max_examples=2_000)
hypothesis.settings.load_profile("deep" if os.environ.get("NPUQ_HYPOTHESIS") == "deep" else "change")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Share what takes long to make in a parallel session, too."""
    from tests.spread import SharedThingsOnce

    return SharedThingsOnce(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes, in its random order: both cores shall have something to do until the end."""
    items.sort(key=lambda item: item.get_closest_marker("acceptance") is None)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking through thousands of tests again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which nothing of the person who runs the tests lies."""
    return tmp_path_factory.mktemp("xdg")


@pytest.fixture(autouse=True)
def plain_settings(monkeypatch: pytest.MonkeyPatch, own_folders: Path) -> None:
    """Let no setting of the person who runs the tests reach them."""
    for name in [name for name in os.environ if name.startswith("NPUQ_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own_folders / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(own_folders / "data"))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "template.sqlite3"
    database = open_database(f"sqlite:///{path}")
    schema.upgrade(database)
    database.dispose()  # the last connection folds the write-ahead log into the file
    return path


@pytest.fixture(scope="session")
def postgresql_server(worker_id: str) -> Iterator[PostgresqlServer]:
    """Return the session's PostgreSQL server, shared by all workers of a parallel session."""
    session_id = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid.uuid4().hex)[:12]
    server = postgresql.start(worker_id, session_id)
    yield server
    server.close()


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_template: Path) -> str:
    """Return the URL of a migrated SQLite database."""
    path = tmp_path / "npuq.sqlite3"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgresql_url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    """Return the URL of a migrated PostgreSQL database."""
    with postgresql_server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a migrated database, once of each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of an empty database, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    else:
        with request.getfixturevalue("postgresql_server").empty_database() as url:
            yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Return a migrated database, once of each kind."""
    opened = open_database(database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def sqlite_database(sqlite_url: str) -> Iterator[Database]:
    """Return a migrated SQLite database, for what does not depend on the kind."""
    opened = open_database(sqlite_url)
    yield opened
    opened.dispose()


@pytest.fixture
def world(database: Database) -> World:
    """Return a fleet of one host with two chips and two slots, once in each kind of database."""
    return World(database)


@pytest.fixture
def sqlite_world(sqlite_database: Database) -> World:
    """Return the same fleet in SQLite only."""
    return World(sqlite_database)


@pytest.fixture(scope="session")
def redis_process() -> Iterator[RedisServer]:
    """Return the session's Redis server; tests ask for `redis_server`."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def redis_server(redis_process: RedisServer) -> Iterator[RedisServer]:
    """Return an empty Redis server; afterwards only documented keys may be in it."""
    redis_process.client.flushall()
    yield redis_process
    assert redis_process.leaked_keys() == []


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings with a home of their own, at a tenth of the usual waits."""
    return Settings(home=tmp_path / "home", host_name="h1", host_slots=2, timing=Timing().scaled(0.1))


@pytest.fixture(scope="session")
def efficientdet_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return weights of EfficientDet-D0 that find the demo's shapes.

    They take ten seconds of a core: who asks for them is in the group `detecting` of `tests/spread.py`, so
    that they are made once.
    """
    from tasks import torch_memory, torch_threads

    torch_memory.keep_blocks()
    torch_threads.use_few_threads()
    from tasks.recipes.efficientdet_d0 import demo_weights

    return demo_weights.checkpoint(tmp_path_factory.mktemp("efficientdet"), pictures=24)


@pytest.fixture(scope="session")
def ssd_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return weights of SSD-MobileNetV2 that find the demo's shapes; made once, as EfficientDet's."""
    from tasks import torch_memory, torch_threads

    torch_memory.keep_blocks()
    torch_threads.use_few_threads()
    from tasks.recipes.ssd_mobilenetv2 import demo_weights

    return demo_weights.checkpoint(tmp_path_factory.mktemp("ssd"), pictures=48)
