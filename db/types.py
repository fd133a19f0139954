"""Column types and SQL expressions that mean the same on SQLite and on PostgreSQL."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import JSON, DateTime, Enum, Float, literal
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from npuq.clock import check_aware

JsonType = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in UTC. SQLite keeps them as text with microseconds, so that text order is time order."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the column type of one database."""
        return dialect.type_descriptor(DateTime(timezone=dialect.name != "sqlite"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive datetimes; SQLite takes the UTC clock face."""
        if value is None:
            return None
        moment = check_aware(value)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return an aware datetime in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


PARAMETERS: Final = 500
"""How many values one statement lists; SQLite takes some ten thousand, and old ones 999."""


def batched(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield values in pieces that fit one statement."""
    for start in range(0, len(values), PARAMETERS):
        yield values[start : start + PARAMETERS]


def storable(text: str) -> str:
    """Return text as every database can hold it: a tool's NUL bytes and a file name's lone surrogates are replaced."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def enum_type(kind: type[StrEnum]) -> Enum:
    """Return a column type that stores a StrEnum by value and refuses other words with a CHECK."""
    return Enum(
        kind,
        native_enum=False,
        create_constraint=True,
        length=16,
        name=kind.__name__.lower(),
        values_callable=lambda members: [member.value for member in members],
    )


class db_now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function it is
    """The database's own clock at this statement, plus some seconds. The only clock that stamps leases.

    The seconds are a parameter of the statement, so that its text is compiled once and not at every call.
    """

    inherit_cache = True
    type = UtcDateTime()

    def __init__(self, plus_seconds: float = 0.0) -> None:
        super().__init__(literal(float(plus_seconds), Float()))


@compiles(db_now, "sqlite")
def _sqlite_now(element: db_now, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    seconds = compiler.process(element.clauses, **options)
    # SQLite knows milliseconds; the zeros keep the text form equal in length to what UtcDateTime writes.
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now', printf('%+.3f seconds', {seconds})) || '000')"


@compiles(db_now, "postgresql")
def _postgresql_now(element: db_now, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    seconds = compiler.process(element.clauses, **options)
    # clock_timestamp() moves within a transaction, now() does not.
    return f"(clock_timestamp() + CAST({seconds} AS double precision) * interval '1 second')"
