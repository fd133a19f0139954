"""How long jobs of each kind took lately, learned from finished attempts; only for looking ahead, never for safety."""

from collections import deque
from datetime import datetime
from statistics import median
from typing import Final

from sqlalchemy import Connection

from db import scheduling_queries
from npuq.states import JobKind

WINDOW: Final = 20


class Durations:
    """A short memory of durations."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, JobKind], deque[float]] = {}
        self._newest: datetime | None = None

    def learn(self, connection: Connection) -> None:
        """Read the attempts that succeeded since the last time, a bounded number of them."""
        for recipe, kind, seconds, finished_at in scheduling_queries.finished_since(
            connection, self._newest, limit=200
        ):
            self._seconds.setdefault((recipe, kind), deque(maxlen=WINDOW)).append(seconds)
            self._newest = finished_at

    @property
    def estimates(self) -> dict[tuple[str, JobKind], float]:
        """Return (recipe, kind) -> median seconds."""
        return {key: median(values) for key, values in self._seconds.items()}
