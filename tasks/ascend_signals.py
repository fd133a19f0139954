"""The table of known failures of the Ascend tools: data (`ascend_errors.toml`), and a person's own rows before it.

This module reads and checks rows; what an error becomes is `tasks.ascend_errors`' business.
"""

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from npuq.errors import Blame, ConfigError

OURS: Final = Path(__file__).with_name("ascend_errors.toml")
OWN_FILE_NAME: Final = "ascend_errors.toml"
"""A person's rows lie under this name in NPUQ_HOME."""
OWN_FILE_VARIABLE: Final = "NPUQ_ASCEND_ERRORS"
"""Tells the processes of jobs, which do not know NPUQ_HOME, where a person's rows are."""
#: `<507010|507901>` in a pattern: numbers that count as error codes only, see `_expanded`.
_CODES: Final = re.compile(r"<([0-9]{1,9}(?:\|[0-9]{1,9})*)>")
#: What the tools write before the number of an error: `SetDevice failed.ret=507033`, `error code is 507014`.
_BEFORE_CODE: Final = (
    r"(?:ret|return value|result|code|error|err|errno|status|failed|ACL_ERROR\w{0,60})"
    r"(?:[ \t](?:code|is|with|no))?[ \t:=,(\[{\"']{1,6}"
)
USUAL_QUARANTINE_AFTER: Final = 3
"""Equal failures of one chip within 24 hours that take it out of service, unless its row says otherwise."""


class Tool(StrEnum):
    """Whose output a row is about."""

    ATC = "atc"
    RUNTIME = "runtime"


class Retry(StrEnum):
    """Whether another try may help."""

    NO = "no"
    ONCE = "once"  #: the same failure again means that the input is at fault
    YES = "yes"


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A failure that can be recognised.

    Attributes:
        patterns: regular expressions that must all be found, codes in angle brackets expanded.
        code: short name of the failure.
        blame: who is to blame.
        retry: whether another try may help.
        advice: what is wrong and what to do, in one or two sentences.
        quarantine_after: so many such failures of one chip within 24 hours take it out of service; 0: never.
    """

    patterns: tuple[re.Pattern[str], ...]
    code: str
    blame: Blame
    retry: Retry
    advice: str
    quarantine_after: int = USUAL_QUARANTINE_AFTER

    def matches(self, text: str) -> bool:
        """Return whether all patterns are in the text."""
        return all(pattern.search(text) for pattern in self.patterns)


def _expanded(pattern: str) -> re.Pattern[str]:
    """Compile a pattern; codes in angle brackets match where the text gives the number as an error's.

    The tools print process ids, threads, lines and sizes of the same length, and a chip must not be quarantined for
    `[PID: 507010]`.
    """
    return re.compile(
        _CODES.sub(lambda found: rf"(?:(?i:{_BEFORE_CODE})(?:{found[1]})\b|\[(?:{found[1]})\]\[)", pattern)
    )


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    patterns: tuple[str, ...] = Field(min_length=1)
    blame: Blame
    retry: Retry
    advice: str = Field(min_length=1)
    quarantine_after: int = Field(default=USUAL_QUARANTINE_AFTER, ge=0)

    @field_validator("patterns")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                _expanded(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return patterns

    def signal(self) -> Signal:
        values = dict(self) | {"patterns": tuple(_expanded(pattern) for pattern in self.patterns)}
        return Signal(**values)


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    atc: tuple[_Row, ...] = ()
    runtime: tuple[_Row, ...] = ()


def read_signals(path: Path) -> Mapping[Tool, tuple[Signal, ...]]:
    """Return the rows of a file.

    Raises:
        ConfigError: it cannot be read, or a row is malformed; the message names it.
    """
    try:
        table = _Table.model_validate(tomllib.loads(path.read_text("utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {where}: {first['msg']}") from error
    except (OSError, ValueError) as error:  # a TOML error is a ValueError
        raise ConfigError(f"{path}: {error}") from error
    return {
        Tool.ATC: tuple(row.signal() for row in table.atc),
        Tool.RUNTIME: tuple(row.signal() for row in table.runtime),
    }


@lru_cache(maxsize=8)
def _merged(own: str | None) -> Mapping[Tool, tuple[Signal, ...]]:
    ours = read_signals(OURS)
    if own is None or not Path(own).exists():
        return ours
    theirs = read_signals(Path(own))
    return {tool: (*theirs[tool], *ours[tool]) for tool in Tool}


def signals(tool: Tool, environment: Mapping[str, str] | None = None) -> tuple[Signal, ...]:
    """Return the rows for a tool, a person's before ours; a file is read once per process.

    Raises:
        ConfigError: the person's file is malformed.
    """
    known: Mapping[str, Any] = os.environ if environment is None else environment
    return _merged(known.get(OWN_FILE_VARIABLE))[tool]


def usable_signals(tool: Tool) -> tuple[Signal, ...]:
    """Return the rows for a tool; of a person's damaged file only a line on stderr, as it must not hide a failure."""
    try:
        return signals(tool)
    except ConfigError as error:
        sys.stderr.write(f"the table of known failures is not read: {error}\n")
        return read_signals(OURS)[tool]


def quarantine_after(code: str) -> int:
    """Return how many failures of a code within 24 hours take a chip out of service; 0: never."""
    rows = (signal for signal in usable_signals(Tool.RUNTIME) if signal.code == code)
    found = next(rows, None)
    return USUAL_QUARANTINE_AFTER if found is None else found.quarantine_after
