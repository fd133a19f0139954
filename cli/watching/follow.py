"""Following a run until it is over: reads, draws or tells, and lets go when a person presses Ctrl-C."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from cli.output import tell
from cli.session import Session
from cli.watching import lines, live
from cli.watching.delivery import deliver
from cli.watching.snapshot import Snapshot, read_earlier, read_snapshot
from cli.watching.verdict import FAILED_STATES, exit_code
from db.records import JobRecord
from npuq.errors import ExitCode
from npuq.states import FINAL_RUN_STATES, RunState

POLL_SECONDS: Final = 0.3
#: Reading takes at most this share of the time, however large the run is.
READING_SHARE: Final = 0.2
SUMMARY_SECONDS: Final = 10.0
Show = Callable[[Snapshot], None]


def follow_run(session: Session, run_id: str, deadline: float | None = None) -> int:
    """Follow a run to its end and tell it.

    Returns:
        0 when it succeeded; 1 when it did not, 3 when nothing was wrong with what was asked for; 4 when the deadline
        (monotonic seconds) passed first, 130 when a person let go of it.
    """
    try:
        snapshot = watch_until_over(session, run_id, deadline)
    except TimeoutError as error:
        tell(f"{error}; it goes on. Come back with: npuq watch {run_id}")
        return ExitCode.TIMEOUT
    except KeyboardInterrupt:
        tell(f"\nlet go of run {run_id}; it goes on. Come back with: npuq watch {run_id}")
        return ExitCode.INTERRUPTED
    return tell_end(snapshot)


def tell_end(snapshot: Snapshot) -> int:
    """Say on stderr what became of a run and what to look at; returns the exit code."""
    run = snapshot.run
    if run.state is RunState.SUCCEEDED:
        tell(f"run {run.run_id} succeeded; its table: npuq results report {run.run_id}")
    else:
        reason = f": {run.reason}" if run.reason else ""
        tell(f"run {run.run_id} {run.state}{reason}; why: npuq why {run.run_id}")
    return exit_code(run.state, [job for job in snapshot.jobs if job.state in FAILED_STATES])


def watch_until_over(session: Session, run_id: str, deadline: float | None = None) -> Snapshot:
    """Show a run on stderr until it is over and return its end; what waits in the outbox is delivered first.

    Raises:
        NotFoundError: nobody knows the run.
        TimeoutError: the deadline (monotonic seconds) passed first.
    """
    for spec in session.waiting():
        if spec.run_id == run_id:
            deliver(session, spec, deadline)
    with _shown() as show:
        return read_until(session, run_id, show, lambda snapshot: snapshot.run.state in FINAL_RUN_STATES, deadline)


def read_until(
    session: Session, run_id: str, show: Show, done: Callable[[Snapshot], bool], deadline: float | None = None
) -> Snapshot:
    """Read a run again and again, show each snapshot, and return the first that is `done`.

    Raises:
        NotFoundError: the fleet does not know the run.
        TimeoutError: the deadline (monotonic seconds) passed first.
    """
    suspect_seconds = session.settings.timing.suspect_seconds
    with session.read() as connection:
        earlier: Sequence[JobRecord] = read_earlier(connection, run_id)
    while True:
        began = time.monotonic()
        with session.read() as connection:
            snapshot = read_snapshot(connection, run_id, suspect_seconds=suspect_seconds, earlier=earlier)
        show(snapshot)
        if done(snapshot):
            return snapshot
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError(f"run {run_id} is not over")
        took = time.monotonic() - began
        time.sleep(max(POLL_SECONDS, took / READING_SHARE))


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
