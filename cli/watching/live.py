"""A run as a live picture on a terminal: a bar for the run, a line per device. Drawing only."""

from typing import TYPE_CHECKING, Final

from cli.output import state_style
from cli.views import counts_in_words
from cli.watching.snapshot import Occupation, Snapshot
from cli.words import duration
from npuq.states import FINAL_RUN_STATES, JobState, RunState

if TYPE_CHECKING:
    from rich.console import RenderableType

NAME_WIDTH: Final = 10
BAR_WIDTH: Final = 30
AMOUNT_WIDTH: Final = 25


def picture(snapshot: Snapshot) -> "RenderableType":
    """Return the picture of a moment."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    run = snapshot.run
    title = Text.assemble((run.name, "bold"), "  ", (run.run_id, "dim"), "  ", (run.state, state_style(run.state)))
    bars = Table.grid(padding=(0, 2, 0, 0))
    for width in (NAME_WIDTH, BAR_WIDTH, AMOUNT_WIDTH, None):  # or the columns would jump from redraw to redraw
        bars.add_column(min_width=width)
    bars.add_row(
        Text("run", "bold"),
        ProgressBar(total=max(1, snapshot.total), completed=snapshot.done, width=BAR_WIDTH),
        Text(f"{snapshot.over}/{snapshot.total} jobs"),
        Text(timing(snapshot)),
    )
    for item in snapshot.occupations:
        share = item.progress.share if item.progress else 0.0
        bars.add_row(
            Text(item.device.device_id),
            ProgressBar(total=1.0, completed=share, width=BAR_WIDTH),
            Text(amount(item)),
            Text(doing(item)),
        )
    counts = Text(counts_in_words(run.jobs) if run.jobs else waiting_for(snapshot), "dim")
    return Group(title, bars, counts)


def timing(snapshot: Snapshot) -> str:
    """Return how long it went, and may still go."""
    elapsed = duration(snapshot.elapsed_seconds)
    if snapshot.run.state in FINAL_RUN_STATES or snapshot.remaining_seconds is None:
        return elapsed
    return f"{elapsed}, about {duration(snapshot.remaining_seconds)} left"


def amount(item: Occupation) -> str:
    """Return how far a device is and how fast: `96/240 images, 51.2/s`."""
    if item.progress is None:
        return ""
    rate = "" if item.rate is None else f", {item.rate:.1f}/s"
    return f"{item.progress.done}/{item.progress.total} {item.progress.unit}{rate}"


def doing(item: Occupation) -> str:
    """Return what a device does, in words."""
    emulated = " (emulated)" if item.device.emulated else ""
    if item.job is None:
        return f"{item.device.state}{emulated}"
    coming = "next: " if item.job.state is JobState.DISPATCHED else ""
    return f"{coming}{item.job.label}{emulated}"


def waiting_for(snapshot: Snapshot) -> str:
    """Return why a run has no jobs yet."""
    if snapshot.run.state is RunState.SUBMITTED:
        return snapshot.run.reason or "waiting for the scheduler to plan it"
    return snapshot.run.reason or "no jobs"
