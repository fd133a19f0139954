"""The bar of an upload: bytes, rate and total, and a line that stays when it is over."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cli.output import tell
from cli.words import duration, size

SHOWN_BYTES: Final = 4 * 2**20  #: smaller ones are over before one can read the bar


@contextmanager
def upload_bar(path: Path) -> Iterator[Callable[[int], None] | None]:
    """Show an upload on a terminal; gives what has to be called with the bytes of each piece, None for no picture."""
    total_bytes = path.stat().st_size
    if not sys.stderr.isatty() or total_bytes < SHOWN_BYTES:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("uploading {task.description}"), BarColumn(), TextColumn("{task.fields[amount]}"))
    began, pieces, done_bytes = time.monotonic(), 0, 0
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(path.name, total=total_bytes, amount=amount(0, total_bytes, 0.0))

        def advance(count: int) -> None:
            nonlocal pieces, done_bytes
            pieces, done_bytes = pieces + 1, done_bytes + count
            rated = amount(done_bytes, total_bytes, time.monotonic() - began)
            bar.update(task, completed=done_bytes, amount=rated)

        yield advance
    if pieces == 1:  # the store takes what it has in one piece, and everything else of this size in several
        tell(f"{path.name} is in the store already ({size(total_bytes)})")
    else:
        tell(f"uploaded {path.name}: {finished(total_bytes, time.monotonic() - began)}")


def amount(done_bytes: int, total_bytes: int, seconds: float) -> str:
    """Return how far an upload is: `12.0 MiB of 16.8 MiB, 8.1 MiB/s`; without a rate before there is one."""
    told = f"{size(done_bytes)} of {size(total_bytes)}"
    return f"{told}, {size(int(done_bytes / seconds))}/s" if done_bytes and seconds > 0 else told


def finished(total_bytes: int, seconds: float) -> str:
    """Return what an upload was: `16.8 MiB in 2.1s, 8.0 MiB/s`."""
    rate = f", {size(int(total_bytes / seconds))}/s" if seconds > 0 else ""
    return f"{size(total_bytes)} in {duration(seconds)}{rate}"
