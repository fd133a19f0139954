"""The Python API: what the command line does, for programs.

client = npuq.Client()
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
from urllib.parse import unquote

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
TAKEN_BACK: Final = "it was taken back"
NOBODY_LISTENS: Final = "nobody is listening yet: no scheduler has taken it"


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
        deadline = time.monotonic() + wait_seconds
        while True:
            found = self.deliver(spec)
            # Neither an absent Redis nor an absent database comes back while somebody looks at a prompt.
            if found.seen or found.problem != NOBODY_LISTENS or time.monotonic() > deadline:
                return found
            time.sleep(POLL_SECONDS)

    def deliver(self, spec: RunSpec) -> Submission:
        """Send a submission of the outbox if that is due, and tell what has become of it; does not wait."""
        try:
            if self._delivered(spec.run_id):
                return Submission(run_id=spec.run_id, sent=True, seen=True)
            unseen = NOBODY_LISTENS
        except DatabaseError as error:
            unseen = str(error)  # Redis may still take it
        problem = self._send(spec) if self._due(spec.run_id) else ""
        return Submission(run_id=spec.run_id, sent=not problem, seen=False, problem=problem or unseen)

    def _due(self, run_id: str) -> bool:
        sent = self._outbox.seconds_since_sent(run_id)
        return sent is None or sent > self.settings.timing.resend_seconds

    def _send(self, spec: RunSpec) -> str:
        first = self._outbox.seconds_since_sent(spec.run_id) is None
        if first and not self._outbox.begin_sending(spec.run_id):
            return TAKEN_BACK
        try:
            self._sender.send(SUBMIT_TASK, SUBMIT_QUEUE, spec.model_dump_json())
        except NpuqError as error:
            if first:
                self._outbox.was_not_sent(spec.run_id)
            return str(error)
        self._outbox.mark_sent(spec.run_id)
        return ""

    def has_database(self) -> bool:
        """Tell whether there is a database to connect to; a server is taken to be there.

        Connecting to a file that is missing would make an empty one and hide that there is no fleet.
        """
        prefix = "sqlite:///"
        url = self.settings.database
        return not url.startswith(prefix) or Path(unquote(url.removeprefix(prefix))).is_file()

    def _delivered(self, run_id: str) -> bool:
        from db import runs
        from db.schema import current_revision

        if not self.has_database() or current_revision(self.database) is None:
            return False
        with self.database.read() as connection:
            found = runs.get(connection, run_id) is not None
        if found:
            self._outbox.remove(run_id)
        return found

    def flush_outbox(self) -> int:
        """Send again what the fleet has not been seen to accept; returns how many still wait.

        Cheap when the outbox is empty; never raises for a fleet that is away.
        """
        waiting, reachable = 0, True
        for spec in self._outbox.pending():
            if reachable:
                found = self.deliver(spec)
                waiting += not found.seen
                reachable = found.sent or found.seen
            else:
                waiting += 1  # each further try would cost a command seconds
        return waiting

    def waiting(self) -> list[RunSpec]:
        """Return the submissions of this machine that the fleet has not been seen to accept, oldest first."""
        return list(self._outbox.pending())

    def take_back(self, spec: RunSpec) -> bool:
        """Forget a submission of the outbox that was never sent; False when it was: the fleet may yet take it."""
        return self._outbox.take_back(spec)

    def run(self, run_id: str) -> "RunRecord":
        """Return a run; raises NotFoundError."""
        from db import runs

        with self.database.read() as connection:
            record = runs.get(connection, run_id)
        if record is None:
            raise NotFoundError(f"no run {run_id}; see: npuq runs list")
        return record

    def wait(self, run_id: str, *, timeout_seconds: float) -> "RunRecord":
        """Wait until a run ends; one that waits in the outbox is delivered meanwhile.

        Raises:
            NotFoundError: neither the fleet nor the outbox knows it.
            TimeoutError: it was not over after `timeout_seconds`.
        """
        deadline = time.monotonic() + timeout_seconds
        for spec in self.waiting():
            while spec.run_id == run_id and not (found := self.deliver(spec)).seen:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"run {run_id} waits in the outbox after {timeout_seconds:g} s: {found.problem}")
                time.sleep(POLL_SECONDS)
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
