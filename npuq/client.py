"""The Python API: what the command line does, for programs.

client = Client()
run = client.submit(spec)
client.wait(run.run_id, timeout_seconds=600)
client.results(run.run_id)
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from npuq.config import Settings, load_settings
from npuq.errors import DatabaseError, NotFoundError, NpuqError
from npuq.messages import SUBMIT_QUEUE, SUBMIT_TASK
from npuq.outbox import Outbox
from npuq.specs import RunSpec
from npuq.states import FINAL_RUN_STATES

if TYPE_CHECKING:
    from db.artifacts import ArtifactStore
    from db.engine import Database
    from db.records import NewArtifact, ResultRecord, RunRecord
    from npuq.celery_app import Sender

SEEN_WAIT_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.1


def new_run_id() -> str:
    """Return a fresh run id, a UUIDv7: ordered by time, made by the client, and so the submission's key."""
    from uuid_utils import uuid7

    return str(uuid7())


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What became of a submission.

    Attributes:
        run_id: the run.
        sent: the message reached Redis.
        seen: the scheduler has accepted it: the run is in the database.
        problem: why it is not seen yet, in words; it stays in the outbox until it is.
    """

    run_id: str
    sent: bool
    seen: bool
    problem: str = ""


class Client:
    """A fleet, as seen from a laptop."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        self._outbox = Outbox(self.settings.home / "outbox")

    @cached_property
    def database(self) -> "Database":
        """Return the fleet's database."""
        from db.engine import open_database

        return open_database(self.settings.database)

    @cached_property
    def store(self) -> "ArtifactStore":
        """Return the fleet's artifact store."""
        from db.artifacts import ArtifactStore

        cache = self.settings.home / "cache" / "artifacts"
        return ArtifactStore(self.settings.store, cache, cache_bytes=self.settings.artifact_cache_bytes)

    @cached_property
    def _sender(self) -> "Sender":
        from npuq.celery_app import Sender

        return Sender(self.settings)

    def upload(self, path: Path, progress: Callable[[int], None] | None = None) -> "NewArtifact":
        """Store a file by its digest; `progress` is called with the bytes of each piece. Raises ArtifactError."""
        return self.store.put(path, progress)

    def submit(self, spec: RunSpec, *, wait_seconds: float = SEEN_WAIT_SECONDS) -> Submission:
        """Send a run to the fleet; it is kept in the outbox until the fleet has accepted it."""
        self._outbox.put(spec)
        problem = self._send(spec)
        if problem:
            return Submission(run_id=spec.run_id, sent=False, seen=False, problem=problem)
        deadline = time.monotonic() + wait_seconds
        try:
            while not self._delivered(spec.run_id):
                if time.monotonic() > deadline:
                    problem = "nobody is listening yet: no scheduler has taken it"
                    return Submission(run_id=spec.run_id, sent=True, seen=False, problem=problem)
                time.sleep(POLL_SECONDS)
        except DatabaseError as error:
            return Submission(run_id=spec.run_id, sent=True, seen=False, problem=str(error))
        return Submission(run_id=spec.run_id, sent=True, seen=True)

    def _send(self, spec: RunSpec) -> str:
        try:
            self._sender.send(SUBMIT_TASK, SUBMIT_QUEUE, spec.model_dump_json())
        except NpuqError as error:
            return str(error)
        self._outbox.mark_sent(spec.run_id)
        return ""

    def _delivered(self, run_id: str) -> bool:
        from db import runs
        from db.schema import current_revision

        if current_revision(self.database) is None:
            return False
        with self.database.read() as connection:
            found = runs.get(connection, run_id) is not None
        if found:
            self._outbox.remove(run_id)
        return found

    def _known_delivered(self, run_id: str) -> bool:
        try:
            return self._delivered(run_id)
        except DatabaseError:
            return False  # Redis may still take it

    def flush_outbox(self) -> int:
        """Send again what the fleet has not been seen to accept; returns how many still wait.

        Cheap when the outbox is empty; never raises for a fleet that is away.
        """
        waiting = 0
        for spec in self._outbox.pending():
            if self._known_delivered(spec.run_id):
                continue
            waiting += 1
            sent = self._outbox.seconds_since_sent(spec.run_id)
            if sent is None or sent > self.settings.timing.resend_seconds:
                self._send(spec)
        return waiting

    def run(self, run_id: str) -> "RunRecord":
        """Return a run; raises NotFoundError."""
        from db import runs

        with self.database.read() as connection:
            record = runs.get(connection, run_id)
        if record is None:
            raise NotFoundError(f"no run {run_id}; see: npuq runs list")
        return record

    def wait(self, run_id: str, *, timeout_seconds: float) -> "RunRecord":
        """Wait until a run ends; raises TimeoutError after `timeout_seconds`."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            record = self.run(run_id)
            if record.state in FINAL_RUN_STATES:
                return record
            if time.monotonic() > deadline:
                raise TimeoutError(f"run {run_id} is still {record.state} after {timeout_seconds:g} s")
            time.sleep(POLL_SECONDS)

    def results(self, run_id: str) -> "list[ResultRecord]":
        """Return a run's results, those that it reused included."""
        from db import results

        with self.database.read() as connection:
            return results.find(connection, run_id=run_id)

    def close(self) -> None:
        """Close every connection that was opened."""
        if "database" in self.__dict__:
            self.database.dispose()
        if "_sender" in self.__dict__:
            self._sender.close()
