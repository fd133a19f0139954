"""Waiting for something that another thread or process does."""

import time
from collections.abc import Callable
from typing import Final

POLL_SECONDS: Final = 0.02


def wait_until(predicate: Callable[[], object], description: str, timeout: float = 20.0) -> None:
    """Return as soon as `predicate()` is true; fail with the description after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {description}")
        time.sleep(POLL_SECONDS)
