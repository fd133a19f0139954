"""How every reading command shows its records: `-o table|json|ndjson|csv|md|name`.

Data go to stdout and nothing else does. Tables are for people: relative times, colours on a terminal only, plain
aligned columns otherwise, never cut. JSON is for programs: the documents of `cli.documents`, raw numbers.
"""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Generic, TextIO, TypeVar

T = TypeVar("T")
GAP: Final = "  "


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
        name: the id.
        empty: what to tell a person when there is nothing.
    """

    columns: Sequence[Column[T]]
    document: Callable[[T], Mapping[str, Any]]
    name: Callable[[T], str]
    empty: str


def tell(line: str) -> None:
    """Write a line for people to stderr, at once; nobody there to read it is no reason to stop halfway."""
    with suppress(BrokenPipeError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def show_many(records: Sequence[T], view: View[T], wanted: Format) -> None:
    """Write records to stdout; says on stderr when there is none and a person looks."""
    if not records and wanted in {Format.TABLE, Format.MD}:
        sys.stderr.write(f"{view.empty}\n")
        return
    if wanted is Format.JSON:
        write_json([view.document(record) for record in records])
    elif wanted is Format.TABLE:
        _write_table(records, view, sys.stdout)
    else:
        sys.stdout.write(_as_text(records, view, wanted))


def show_one(record: T, view: View[T], wanted: Format) -> None:
    """Write one record to stdout; as a table, a line per fact."""
    if wanted is Format.JSON:
        write_json(view.document(record))
    elif wanted in {Format.TABLE, Format.MD}:
        facts = [(name, _plain(value)) for name, value in flatten(view.document(record)).items()]
        rows = [fact for fact in facts if fact[1] != ""]
        text = markdown(["field", "value"], rows) if wanted is Format.MD else aligned(rows, [False, False])
        sys.stdout.write(text)
    else:
        sys.stdout.write(_as_text([record], view, wanted))


def write_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Write one JSON document to stdout."""
    sys.stdout.write(f"{json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)}\n")


def _as_text(records: Sequence[T], view: View[T], wanted: Format) -> str:
    if wanted is Format.NDJSON:
        return "".join(f"{json.dumps(view.document(record), ensure_ascii=False)}\n" for record in records)
    if wanted is Format.CSV:
        return comma_separated([view.document(record) for record in records])
    if wanted is Format.NAME:
        return "".join(f"{view.name(record)}\n" for record in records)
    return markdown([column.header for column in view.columns], _cells(records, view))


def _cells(records: Iterable[T], view: View[T]) -> list[list[str]]:
    return [[column.text(record) for column in view.columns] for record in records]


def flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a document without nesting: `{"a": {"b": 1}}` becomes `{"a.b": 1}`; lists stay."""
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = None if value == {} else value
    return flat


def comma_separated(documents: Sequence[Mapping[str, Any]]) -> str:
    """Return documents as CSV: a column per flat key, in the order of first appearance."""
    rows = [flatten(document) for document in documents]
    names = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if names:
        writer.writerow(names)
    writer.writerows([[_plain(row.get(name)) for name in names] for row in rows])
    return buffer.getvalue()


def _plain(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def markdown(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; pipes in cells are escaped."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def aligned(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Return rows in columns of equal width, as wide as they need, counted in terminal cells."""
    from rich.cells import cell_len

    flat = [[" ".join(cell.split()) for cell in row] for row in rows]
    widths = [max(cell_len(row[index]) for row in flat) for index in range(len(right))] if flat else []
    lines = []
    for row in flat:
        padded = [
            " " * (width - cell_len(cell)) + cell if to_right else cell + " " * (width - cell_len(cell))
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append(GAP.join(padded).rstrip())
    return "".join(f"{line}\n" for line in lines)


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
            *(Text(column.text(record), style=column.style(record) if column.style else "") for column in view.columns)
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
