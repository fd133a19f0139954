"""How every reading command shows its records: `-o table|json|ndjson|csv|md|name`.

Data go to stdout and nothing else does. Tables are for people: relative times, colours on a terminal only, plain
aligned columns otherwise, never cut. JSON is for programs: the documents of `cli.documents`, raw numbers. CSV has the
same columns whatever the records are, also when there is none.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Generic, TextIO, TypeVar

from cli.invocation import as_called
from cli.text_tables import aligned, as_json, comma_separated, flatten, markdown, one_row, reading

T = TypeVar("T")


class Format(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    MD = "md"
    NAME = "name"


@dataclass(frozen=True, kw_only=True)
class Column(Generic[T]):
    """A column of a table.

    Attributes:
        header: with the unit, where there is one.
        text: a record's cell.
        right: aligned to the right (numbers).
        style: a record's rich style on a terminal.
    """

    header: str
    text: Callable[[T], str]
    right: bool = False
    style: Callable[[T], str] | None = None


@dataclass(frozen=True, kw_only=True)
class View(Generic[T]):
    """How records of one kind are shown.

    Attributes:
        columns: of the table.
        document: the JSON form.
        fields: the columns of CSV: flat names such as `error.code` of what every document may have; an object that is
            named as a whole is a cell of JSON.
        name: the id.
        empty: what to tell a person when there is nothing.
    """

    columns: Sequence[Column[T]]
    document: Callable[[T], Mapping[str, Any]]
    fields: Sequence[str]
    name: Callable[[T], str]
    empty: str


def tell(line: str) -> None:
    """Write a line for people to stderr, at once; nobody there to read it is no reason to stop halfway.

    What it tells to type is spelled as this program was called.
    """
    with suppress(BrokenPipeError):
        sys.stderr.write(f"{as_called(line)}\n")
        sys.stderr.flush()


def show_many(records: Sequence[T], view: View[T], wanted: Format, limit: int | None = None) -> None:
    """Write records to stdout; says on stderr when there is none and a person looks.

    Args:
        records: what was found: with a limit, one more than that where there is more.
        view: how they look.
        wanted: the form.
        limit: only so many are written, and that there are more is told: a program must not take them for all.
    """
    if limit is not None and len(records) > limit:
        records = records[:limit]
        tell(f"only the first {limit} are shown, there are more: --limit N")
    if not records and wanted in {Format.TABLE, Format.MD}:
        tell(view.empty)
    if wanted is Format.JSON:
        write_json([view.document(record) for record in records])
    elif wanted is not Format.TABLE:
        sys.stdout.write(_as_text(records, view, wanted))
    elif records:
        _write_table(records, view, sys.stdout)


def show_one(record: T, view: View[T], wanted: Format) -> None:
    """Write one record to stdout; as a table, a line per fact, and below them a table for each list of objects."""
    if wanted is Format.JSON:
        write_json(view.document(record))
    elif wanted in {Format.TABLE, Format.MD}:
        sys.stdout.write(_as_facts(view.document(record), wanted))
    else:
        sys.stdout.write(_as_text([record], view, wanted))


def write_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Write one JSON document to stdout."""
    sys.stdout.write(f"{as_json(value, indent=2)}\n")


def _as_text(records: Sequence[T], view: View[T], wanted: Format) -> str:
    if wanted is Format.NDJSON:
        return "".join(f"{as_json(view.document(record))}\n" for record in records)
    if wanted is Format.CSV:
        return comma_separated((view.document(record) for record in records), view.fields)
    if wanted is Format.NAME:
        return "".join(f"{view.name(record)}\n" for record in records)
    return markdown([column.header for column in view.columns], _cells(records, view))


def _cells(records: Iterable[T], view: View[T]) -> list[list[str]]:
    return [[column.text(record) for column in view.columns] for record in records]


def _as_facts(document: Mapping[str, Any], wanted: Format) -> str:
    flat = flatten(document)
    lists = {name: value for name, value in flat.items() if _is_table(value)}
    facts = [[name, reading(value)] for name, value in flat.items() if name not in lists and reading(value) != ""]
    shown = [markdown(["field", "value"], facts) if wanted is Format.MD else aligned(facts, [False, False])]
    for name, documents in lists.items():
        headers = list(dict.fromkeys(header for row in documents for header in row))
        rows = [[reading(row.get(header)) for header in headers] for row in documents]
        if wanted is Format.MD:
            shown.append(f"**{name}**\n\n{markdown(headers, rows)}")
        else:
            shown.append(f"{name}:\n{aligned([headers, *rows], [False] * len(headers))}")
    return "\n".join(shown)


def _is_table(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _write_table(records: Sequence[T], view: View[T], stream: TextIO) -> None:
    if not stream.isatty():
        rows = [[column.header for column in view.columns], *_cells(records, view)]
        stream.write(aligned(rows, [column.right for column in view.columns]))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in view.columns:
        table.add_column(column.header, justify="right" if column.right else "left", overflow="fold")
    for record in records:
        table.add_row(
            *(
                Text(one_row(column.text(record)), style=column.style(record) if column.style else "")
                for column in view.columns
            )
        )
    Console(file=stream, highlight=False).print(table)


_STATE_STYLES: Final = {
    "succeeded": "green",
    "online": "green",
    "running": "cyan",
    "busy": "cyan",
    "active": "cyan",
    "dispatched": "cyan",
    "failed": "red",
    "held": "red",
    "quarantined": "red",
    "lost": "red",
    "cancelled": "yellow",
    "skipped": "yellow",
    "draining": "yellow",
}


def state_style(state: str) -> str:
    """Return the colour of a state, "" for none."""
    return _STATE_STYLES.get(state, "")
