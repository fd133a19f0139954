"""The services of a deployment: S3, and TLS in front of whatever was built without it."""

from collections.abc import Iterator

import pytest

from db import schema
from db.engine import open_database
from tests.services import certificates as made
from tests.services.certificates import Certificates
from tests.services.deployed_postgresql import DeployedPostgresql
from tests.services.deployed_redis import DeployedRedis
from tests.services.s3_server import S3Server


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return an authority of our own and a server's certificate."""
    return made.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def s3_process() -> Iterator[S3Server]:
    """Return the session's S3 server; tests ask for `s3_server`."""
    server = S3Server()
    yield server
    server.close()


@pytest.fixture
def s3_server(s3_process: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """Return the S3 server, in the environment of this test; nothing is left of the clients that the test made."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in s3_process.environment.items():
        monkeypatch.setenv(name, value)
    yield s3_process
    S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def deployed_redis() -> Iterator[DeployedRedis]:
    """Return Redis as the deployment starts it."""
    server = DeployedRedis()
    yield server
    server.close()


@pytest.fixture(scope="session")
def deployed_postgresql() -> Iterator[DeployedPostgresql]:
    """Return PostgreSQL with the deployment's roles; its owner has made the schema."""
    server = DeployedPostgresql()
    database = open_database(server.url("owner"))
    schema.upgrade(database)
    database.dispose()
    yield server
    server.close()
