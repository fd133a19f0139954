"""Following a run until it is over: reads, draws or tells, and lets go when a person presses Ctrl-C."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from cli.session import Session
from cli.watching import lines, live
from cli.watching.snapshot import Snapshot, read_earlier, read_snapshot
from cli.watching.waiting import outbox_runs
from db.records import JobRecord
from npuq.errors import ExitCode, NotFoundError
from npuq.states import FINAL_RUN_STATES, RunState

POLL_SECONDS: Final = 0.3
#: Reading takes at most this share of the time, however large the run is.
READING_SHARE: Final = 0.2
SUMMARY_SECONDS: Final = 10.0
Show = Callable[[Snapshot], None]


def follow_run(session: Session, run_id: str) -> int:
    """Follow a run; returns 0 when it succeeded, 1 when it did not, 130 when a person let go of it."""
    try:
        snapshot = watch_until_over(session, run_id)
    except KeyboardInterrupt:
        sys.stderr.write(f"\nlet go of run {run_id}; it goes on. Come back with: npuq watch {run_id}\n")
        return ExitCode.INTERRUPTED
    return tell_end(snapshot)


def tell_end(snapshot: Snapshot) -> int:
    """Say on stderr what became of a run and what to look at; returns the exit code."""
    run = snapshot.run
    if run.state is RunState.SUCCEEDED:
        sys.stderr.write(f"run {run.run_id} succeeded; its table: npuq results report {run.run_id}\n")
        return ExitCode.DONE
    reason = f": {run.reason}" if run.reason else ""
    sys.stderr.write(f"run {run.run_id} {run.state}{reason}; why: npuq why {run.run_id}\n")
    return ExitCode.FAILED


def watch_until_over(session: Session, run_id: str) -> Snapshot:
    """Show a run on stderr until it is over and return its end; raises NotFoundError when nobody knows it."""
    with _shown() as show:
        return read_until(session, run_id, show, lambda snapshot: snapshot.run.state in FINAL_RUN_STATES)


def read_until(session: Session, run_id: str, show: Show, done: Callable[[Snapshot], bool]) -> Snapshot:
    """Read a run again and again, show each snapshot, and return the first that is `done`."""
    reader = _Reader(session, run_id)
    while True:
        began = time.monotonic()
        snapshot = reader.read()
        if snapshot is not None:
            show(snapshot)
            if done(snapshot):
                return snapshot
        took = time.monotonic() - began
        time.sleep(max(POLL_SECONDS, took / READING_SHARE))


class _Reader:
    """Reads a run; what helps the estimate is read once."""

    def __init__(self, session: Session, run_id: str) -> None:
        self._session = session
        self._run_id = run_id
        self._earlier: Sequence[JobRecord] | None = None

    def read(self) -> Snapshot | None:
        """Return the run; None while it waits in the outbox. Raises NotFoundError when nobody knows it."""
        suspect_seconds = self._session.settings.timing.suspect_seconds
        try:
            with self._session.read() as connection:
                if self._earlier is None:
                    self._earlier = read_earlier(connection, self._run_id)
                return read_snapshot(connection, self._run_id, suspect_seconds=suspect_seconds, earlier=self._earlier)
        except NotFoundError:
            if self._run_id not in outbox_runs(self._session):
                raise
            self._session.client.flush_outbox()
            return None


@contextmanager
def _shown() -> Iterator[Show]:
    """Give a way to show snapshots: a live picture on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield LineTeller().tell
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    with Live(console=console, auto_refresh=False, transient=False) as screen:
        yield lambda snapshot: screen.update(live.picture(snapshot), refresh=True)


class LineTeller:
    """Tells on stderr what changed since the last snapshot, and a summary now and then."""

    def __init__(self) -> None:
        self._seen: lines.Seen = {}
        self._summary_at = 0.0

    def tell(self, snapshot: Snapshot) -> None:
        """Tell what is new."""
        told = lines.changes(self._seen, snapshot)
        self._seen = lines.states_of(snapshot.jobs)
        now = time.monotonic()
        if now - self._summary_at >= SUMMARY_SECONDS or snapshot.run.state in FINAL_RUN_STATES:
            self._summary_at = now
            told.append(lines.summary(snapshot))
        if told:
            sys.stderr.write("".join(f"{line}\n" for line in told))
            sys.stderr.flush()
