"""Submissions that the fleet has not been seen to accept: one file each, sent again until it has.

A flushed Redis loses nothing, and one can submit offline. The run id is the submission key, so sending twice is
harmless.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from npuq.errors import InvalidRequestError
from npuq.messages import parse_run_spec
from npuq.specs import RunSpec


class Outbox:
    """A folder of submissions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.json"

    def put(self, spec: RunSpec) -> None:
        """Keep a submission durably until `remove`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(spec.run_id)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("w") as file:
            file.write(spec.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def pending(self) -> Iterator[RunSpec]:
        """Yield what waits, oldest first; a file that is no submission is set aside as `*.bad`."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                spec = parse_run_spec(path.read_text())
            except FileNotFoundError:
                continue  # another command has just delivered it
            except (InvalidRequestError, UnicodeDecodeError):
                with suppress(FileNotFoundError):  # another command has just set it aside
                    path.rename(path.with_suffix(".bad"))
                continue
            yield spec

    def seconds_since_sent(self, run_id: str) -> float | None:
        """Return how long ago a submission was sent; None if never."""
        mark = self._path(run_id).with_suffix(".sent")
        try:
            return max(0.0, time.time() - mark.stat().st_mtime)
        except FileNotFoundError:
            return None

    def mark_sent(self, run_id: str) -> None:
        """Note that a submission was sent now."""
        self._path(run_id).with_suffix(".sent").touch()

    def remove(self, run_id: str) -> None:
        """Forget a submission: the run was seen in the database."""
        self._path(run_id).unlink(missing_ok=True)
        self._path(run_id).with_suffix(".sent").unlink(missing_ok=True)
