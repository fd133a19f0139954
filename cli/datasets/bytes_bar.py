"""The bar of a long look at a dataset's files."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

#: Less is over before one can read the bar.
SHOWN_BYTES: Final = 256 * 2**20


@contextmanager
def hashing_bar(name: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show how many bytes of a dataset were read, on a terminal, once it is known that there are many."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None, visible=False)

        def show(done_bytes: int, total_bytes: int) -> None:
            bar.update(task, completed=done_bytes, total=total_bytes, visible=total_bytes >= SHOWN_BYTES)

        yield show
