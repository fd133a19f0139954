"""What a check says: what was found, whether that is well, and what to do if not. Values only."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"  #: works, but a person should know
    FAILED = "failed"
    SKIPPED = "skipped"  #: does not apply here


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: stable name, for example `driver`.
        verdict: how it ended.
        found: what was found, in a few words.
        fix: what to do; "" when nothing is to be done.
    """

    check: str
    verdict: Verdict
    found: str
    fix: str = ""

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def ok(check: str, found: str) -> Finding:
    """Return that all is well."""
    return Finding(check=check, verdict=Verdict.OK, found=found)


def warning(check: str, found: str, fix: str) -> Finding:
    """Return that it works, but that a person should know something."""
    return Finding(check=check, verdict=Verdict.WARNING, found=found, fix=fix)


def failed(check: str, found: str, fix: str) -> Finding:
    """Return that something does not work."""
    return Finding(check=check, verdict=Verdict.FAILED, found=found, fix=fix)


def skipped(check: str, found: str) -> Finding:
    """Return that the check does not apply here."""
    return Finding(check=check, verdict=Verdict.SKIPPED, found=found)
