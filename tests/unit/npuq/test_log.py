import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from npuq import log

SECRET = "postgresql://npuq:s3cret@db:5432/npuq"


@pytest.fixture
def configured() -> Iterator[None]:
    """Put logging back to what it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_no_password_reaches_the_log(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in a field, nor nested in one, nor in an exception, nor through a foreign library's record."""
    log.configure(json=True)
    logger = log.get_logger("npuq.test")
    logger.info("connected", url=SECRET, tried=[SECRET], options={"url": SECRET}, error=ValueError(SECRET))
    try:
        _fail()
    except RuntimeError:
        logger.exception("tick_failed")
    logging.getLogger("sqlalchemy").warning("cannot reach %s", SECRET)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "s3cret" not in printed.err
    assert printed.err.count("npuq:***@db") == 6


def _fail() -> None:
    raise RuntimeError(f"cannot reach {SECRET}")


def test_events_are_json_lines_with_fixed_names_and_fields(
    configured: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is bound for the length of a step is in every line of it, and in none after."""
    log.configure(json=True)
    logger = log.get_logger("npuq.test")
    with structlog.contextvars.bound_contextvars(job_id="j", attempt=1):
        logger.info("attempt_started")
    logger.info("idle")
    started, idle = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (started["event"], started["level"], started["job_id"], started["attempt"]) == (
        "attempt_started",
        "info",
        "j",
        1,
    )
    assert "job_id" not in idle
    assert idle["module"] == "npuq.test"
    assert idle["timestamp"].endswith("Z")
