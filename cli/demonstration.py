"""The demo: from nothing to the guide's table, with the parts that a person would use one after another."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from cli.datasets.registration import register
from cli.demo_agreement import compare
from cli.fleet.embedded import EmbeddedFleet
from cli.fleet.emulated import Emulation
from cli.session import Session
from cli.submitting.request import Request, read_batch_sizes
from cli.submitting.submission import send
from cli.watching.follow import watch_until_over
from cli.words import duration
from db import results, runs
from npuq.config import Settings, Timing
from npuq.errors import ExitCode, ToolMissingError
from npuq.states import JobKind, RunState
from report import tables

if TYPE_CHECKING:
    from cli.watching.snapshot import Snapshot
    from tasks.demo_data import DemoFiles

CARDS: Final = 2
CHIP: Final = "310P3"
DATASET: Final = "demo"
UP_TIMEOUT_SECONDS: Final = 60.0
#: The demo's jobs last a second: beats and ticks at a quarter let its picture keep up.
TIMING_SCALE: Final = 0.25
BENCHMARK_LOOPS: Final = 20


class Demonstration:
    """One demo in a home of its own. `say` is told what happens, a line at a time."""

    def __init__(self, home: Path, say: Callable[[str], None]) -> None:
        self._settings = Settings.model_construct(home=home, timing=Timing().scaled(TIMING_SCALE))
        self._say = say

    def run(self, *, batch_sizes: str, images: int, keep: bool) -> int:
        """Show everything; the fleet is stopped at the end whatever happens, unless it is to be kept.

        Returns:
            0 when the sweep succeeded and agrees with torch, 1 otherwise, 130 when a person stopped it.

        Raises:
            ToolMissingError: this installation lacks what workers need.
        """
        try:
            from tasks.demo_data import make_demo
        except ImportError as error:
            raise ToolMissingError(
                f"the demo runs a whole fleet here, and this installation is for submitting only ({error}); "
                "run: pip install 'npuq[worker,export,embedded]'"
            ) from error

        read_batch_sizes(batch_sizes)  # refused now, not after the data are made
        fleet = EmbeddedFleet(self._settings, lambda line: self._say(f"  {line}"))
        session = Session(self._settings)
        try:
            with _handled((signal.SIGTERM, signal.SIGHUP), _interrupt):
                self._say("1/4 data: a dataset in ImageNet's layout and a MobileNetV1 checkpoint fitted to it")
                files = make_demo(
                    self._settings.home / "data", val=images, on_stage=lambda stage: self._say(f"  {stage}")
                )
                if files.reused:
                    self._say("  they are there already")
                self._say(f"2/4 fleet: {CARDS} emulated Ascend{CHIP} on this machine")
                fleet.up(Emulation(cards=CARDS, chip=CHIP), timeout_seconds=UP_TIMEOUT_SECONDS)
                self._say(f"3/4 sweep: accuracy and throughput at batch sizes {batch_sizes}")
                end = self._sweep(session, files, batch_sizes)
                code = self._report(session, end, files)
        except KeyboardInterrupt:
            self._say("\nstopped")
            code = ExitCode.INTERRUPTED
        finally:
            session.close()
            if keep:
                self._say(f"the fleet keeps running; stop it with: {self._command('down')}")
            else:
                with _handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), _ignore):
                    fleet.down()
        return code

    def _sweep(self, session: Session, files: "DemoFiles", batch_sizes: str) -> "Snapshot":
        _cancel_leftovers(session)
        register(session, DATASET, files.dataset_root, "imagenet")
        request = Request(
            goals=(JobKind.EVALUATE, JobKind.BENCHMARK),
            recipe="mobilenet_v1",
            weights=files.weights,
            dataset=DATASET,
            batch_sizes=batch_sizes,
            loops=BENCHMARK_LOOPS,
            fresh=True,  # a second demo measures anew; export and conversions are reused all the same
            name="demo sweep",
        )
        submission = send(session, request)
        return watch_until_over(session, submission.run_id)

    def _report(self, session: Session, end: "Snapshot", files: "DemoFiles") -> int:
        run = end.run
        if run.state is not RunState.SUCCEEDED:
            reason = f": {run.reason}" if run.reason else ""
            self._say(f"the run is {run.state}{reason}; look at it with: {self._command('why @last')}")
            return ExitCode.FAILED
        with session.read() as connection:
            rows = tables.guide_rows(results.find(connection, run_id=run.run_id))
        self._say(f"4/4 the guide's table, measured in {duration(end.elapsed_seconds)}:\n")
        sys.stdout.write(tables.as_text(tables.guide_table(rows)))
        sys.stdout.flush()
        agreement = compare(session, run.run_id, rows, files)
        self._say(f"\n{agreement.sentence()}")
        self._say(self._next_steps(run.run_id))
        return ExitCode.DONE if agreement.holds else ExitCode.FAILED

    def _command(self, arguments: str) -> str:
        return f"npuq --home {self._settings.home} {arguments}"

    def _next_steps(self, run_id: str) -> str:
        return (
            f"\nEverything is in {self._settings.home}; the run is {run_id}. What to type next:\n"
            f"  {self._command('results list')}\n"
            f"  {self._command('jobs list --run @last')}\n"
            f"  {self._command(f'up --emulate {CARDS}')}, then sweep a model of yours: npuq sweep --help"
        )


def _cancel_leftovers(session: Session) -> None:
    """Cancel what an interrupted demo left: its jobs would run beside this one's and spoil the measurement."""
    with session.write() as connection:
        for run in runs.find(connection, only_open=True):
            runs.cancel(connection, run.run_id)


@contextmanager
def _handled(numbers: Sequence[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, former in zip(numbers, before, strict=True):
            signal.signal(number, former)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """End the demo as Ctrl-C does, so that its fleet is stopped."""
    raise KeyboardInterrupt


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    """Let nobody interrupt the stopping of the fleet: an impatient second Ctrl-C would leave half of it running."""
