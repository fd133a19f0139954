"""The bar of long work on a dataset's files."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

#: Less is over before one can read the bar.
SHOWN_BYTES: Final = 256 * 2**20

BytesProgress = Callable[[int, int], None]
"""Called with the bytes that are done and the bytes of all files."""


@contextmanager
def bytes_bar(what: str) -> Iterator[BytesProgress | None]:
    """Show how far the work on a dataset is, on a terminal, once it is known that there is much to do.

    Args:
        what: `reading imagenet`.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, visible=False)

        def show(done_bytes: int, total_bytes: int) -> None:
            bar.update(task, completed=done_bytes, total=total_bytes, visible=total_bytes >= SHOWN_BYTES)

        yield show
