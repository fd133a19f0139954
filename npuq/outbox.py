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

    def begin_sending(self, run_id: str) -> bool:
        """Note that a submission is about to be sent for the first time; False when it was taken back meanwhile.

        Noted before, so that who takes it back sees the note, or this sees that it is gone, or both: a process that
        dies between sending and noting has sent it.
        """
        self.mark_sent(run_id)
        if self._path(run_id).exists():
            return True
        self.was_not_sent(run_id)
        return False

    def was_not_sent(self, run_id: str) -> None:
        """Take back the note that a submission was sent."""
        self._path(run_id).with_suffix(".sent").unlink(missing_ok=True)

    def take_back(self, spec: RunSpec) -> bool:
        """Forget a submission that was never sent; False when it was, or is just being sent."""
        if self.seconds_since_sent(spec.run_id) is not None:
            return False
        self._path(spec.run_id).unlink(missing_ok=True)
        if self.seconds_since_sent(spec.run_id) is None:
            return True
        self.put(spec)  # another command began to send it between the two looks
        return False

    def remove(self, run_id: str) -> None:
        """Forget a submission: the run was seen in the database."""
        self._path(run_id).unlink(missing_ok=True)
        self._path(run_id).with_suffix(".sent").unlink(missing_ok=True)
