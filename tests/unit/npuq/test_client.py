"""The Python API and what waits in the outbox, without a fleet."""

from pathlib import Path

import pytest

from npuq.client import Client
from npuq.config import Settings
from npuq.errors import NotFoundError
from npuq.outbox import Outbox
from npuq.specs import RunSpec
from tests.services.world import run_spec


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """Return a client of a home in which nothing runs."""
    return Client(Settings(home=tmp_path))


def test_one_try_tells_that_the_broker_is_away(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further one would cost every command seconds; all of them are counted."""
    tried: list[str] = []

    def send(_client: Client, spec: RunSpec) -> str:
        tried.append(spec.run_id)
        return "cannot reach Redis"

    monkeypatch.setattr(Client, "_send", send)
    specs = [run_spec() for _ in range(3)]
    for spec in specs:
        Outbox(tmp_path / "outbox").put(spec)
    assert client.flush_outbox() == 3
    assert tried == [min(spec.run_id for spec in specs)]


def test_waiting_for_a_submission_ends_in_time_and_says_why(client: Client, tmp_path: Path) -> None:
    """It stays in the outbox, and no database appears where there was none."""
    spec = run_spec()
    Outbox(tmp_path / "outbox").put(spec)
    with pytest.raises(TimeoutError, match=r"waits in the outbox after 0 s: cannot reach Redis"):
        client.wait(spec.run_id, timeout_seconds=0)
    assert client.waiting() == [spec]
    assert not client.has_database()


@pytest.mark.usefixtures("sqlite_world")
def test_waiting_for_what_nobody_knows_is_an_error_at_once(client: Client, tmp_path: Path) -> None:
    """Another submission in the outbox does not matter."""
    Outbox(tmp_path / "outbox").put(run_spec())
    with pytest.raises(NotFoundError):
        client.wait(run_spec().run_id, timeout_seconds=60)
