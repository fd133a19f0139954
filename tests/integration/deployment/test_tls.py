"""TLS as docs/deploy.md has it, with an authority of one's own: to Redis by both of its clients, and to PostgreSQL.

The servers of the tests are built without TLS, so it ends in a proxy before them. S3 is in test_s3_store.py.
"""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError  # noqa: A004 - not the built-in one
from redis.retry import Retry

from cli.doctoring.findings import Verdict
from cli.doctoring.fleet_checks import check_broker
from db import schema
from db.engine import open_database
from npuq.celery_app import Sender, redis_client
from npuq.config import Settings
from npuq.errors import DatabaseError
from npuq.messages import SUBMIT_QUEUE
from tests.services import certificates as made
from tests.services.certificates import Certificates
from tests.services.deployed_postgresql import DeployedPostgresql
from tests.services.deployed_redis import PASSWORD, USER, DeployedRedis
from tests.services.tls_proxy import TlsProxy
from tests.services.waiting import wait_until

WRONG = ["its authority is not known", "the public authorities do not know it", "it has another name"]


@pytest.fixture
def redis_tls(certificates: Certificates, deployed_redis: DeployedRedis) -> Iterator[TlsProxy]:
    """Return TLS in front of Redis."""
    with TlsProxy(certificates, str(deployed_redis.socket)) as tls:
        yield tls


@pytest.fixture
def postgresql_tls(certificates: Certificates, deployed_postgresql: DeployedPostgresql) -> Iterator[TlsProxy]:
    """Return TLS in front of PostgreSQL."""
    with TlsProxy(certificates, deployed_postgresql.port, postgresql=True) as tls:
        yield tls


@pytest.fixture(params=WRONG)
def unbelievable(
    request: pytest.FixtureRequest, certificates: Certificates, deployed_redis: DeployedRedis, tmp_path: Path
) -> Iterator[tuple[TlsProxy, Settings]]:
    """Return a Redis whose certificate proves nothing, and the settings of who asks it."""
    strangers = made.make(tmp_path, "elsewhere.example")
    served, trusted = {
        WRONG[0]: (certificates, strangers.authority),
        WRONG[1]: (certificates, None),
        WRONG[2]: (strangers, strangers.authority),
    }[request.param]
    with TlsProxy(served, str(deployed_redis.socket)) as tls:
        yield tls, broker(tls.port, trusted)


def broker(port: int, authority: Path | None) -> Settings:
    """Return settings with the broker behind TLS."""
    option = "" if authority is None else f"?ssl_ca_certs={authority}"
    url = f"rediss://{USER}:{PASSWORD}@localhost:{port}/0{option}"
    return Settings(home=Path("/nonexistent"), broker_url=url)


def test_both_clients_of_redis_go_through_tls(
    redis_tls: TlsProxy, certificates: Certificates, deployed_redis: DeployedRedis
) -> None:
    """Celery's transport sends, redis-py wakes, the doctor looks; all with the one URL."""
    settings = broker(redis_tls.port, certificates.authority)
    sender = Sender(settings)
    sender.send("npuq.submit", SUBMIT_QUEUE, "{}")
    sender.wake()
    assert sender.wait(5.0)
    sender.close()
    assert check_broker(settings).verdict is Verdict.OK
    with deployed_redis.client() as client:
        assert client.llen(SUBMIT_QUEUE) == 1
        client.delete(SUBMIT_QUEUE)
    assert redis_tls.refused == 0


@pytest.mark.parametrize("unbelievable", WRONG[:1], indirect=True)
def test_celery_sends_nothing_to_a_redis_that_it_cannot_believe(unbelievable: tuple[TlsProxy, Settings]) -> None:
    """The connection ends before the password is sent."""
    tls, settings = unbelievable
    with (
        Connection(settings.broker, connect_timeout=3) as connection,
        pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        connection.connect()
    wait_until(lambda: tls.refused > 0, "the server sees that the client went away")


def test_redis_py_sends_nothing_to_a_redis_that_it_cannot_believe(unbelievable: tuple[TlsProxy, Settings]) -> None:
    """Whatever is wrong with the certificate."""
    tls, settings = unbelievable
    client = redis_client(settings)
    connection: Any = client.connection_pool.make_connection()
    connection.retry = Retry(NoBackoff(), 0)
    with pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        connection.connect()
    client.close()
    wait_until(lambda: tls.refused > 0, "the server sees that the client went away")


def test_postgresql_goes_through_tls(
    postgresql_tls: TlsProxy, certificates: Certificates, deployed_postgresql: DeployedPostgresql
) -> None:
    """With the authority named in the URL."""
    options = {"sslmode": "verify-full", "sslrootcert": str(certificates.authority)}
    database = open_database(deployed_postgresql.url("fleet", port=postgresql_tls.port, **options))
    schema.require(database)
    database.dispose()
    assert postgresql_tls.refused == 0


# pg8000 does not close the socket when it refuses a certificate.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.parametrize("trusted", ["nobody who signed it", "the public authorities"])
def test_a_postgresql_that_cannot_be_believed_gets_no_password(
    postgresql_tls: TlsProxy,
    deployed_postgresql: DeployedPostgresql,
    tmp_path: Path,
    trusted: str,
) -> None:
    """The message says what to set; the server is told nothing, and trying again would not help."""
    options = {"sslmode": "verify-full"}
    if trusted == "nobody who signed it":
        options["sslrootcert"] = str(made.make(tmp_path).authority)
    database = open_database(deployed_postgresql.url("fleet", port=postgresql_tls.port, **options))
    with pytest.raises(DatabaseError, match=r"CERTIFICATE_VERIFY_FAILED.*sslrootcert") as caught, database.read():
        pass
    database.dispose()
    assert not caught.value.info.retry
    del caught  # with it goes the socket
    gc.collect()
    wait_until(lambda: postgresql_tls.refused > 0, "the server sees that the client went away")
