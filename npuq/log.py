"""Structured logs: short fixed event names with fields, to stderr; secrets in URLs are masked.

`job_id`, `attempt` and `device` are bound for the length of a step with `structlog.contextvars`.
"""

import logging
import sys
from typing import cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from npuq.config import redact


def _masked(render: Processor) -> Processor:
    """Mask in the finished line: a secret may lie deep in a field or in the text of an exception."""

    def render_masked(logger: WrappedLogger, method: str, event: EventDict) -> str:
        return redact(str(render(logger, method, event)))

    return render_masked


class _RedactingFormatter(logging.Formatter):
    """Foreign records (Celery, SQLAlchemy) in the same shape, masked the same way."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def configure(*, json: bool | None = None, level: int = logging.INFO) -> None:
    """Send all logs to stderr: readable on a terminal, JSON lines otherwise (or as `json` says)."""
    as_json = not sys.stderr.isatty() if json is None else json
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _masked(renderer),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_RedactingFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def get_logger(name: str) -> FilteringBoundLogger:
    """Return the logger of one module; `name` is bound as `module`."""
    return cast("FilteringBoundLogger", structlog.get_logger(module=name))
