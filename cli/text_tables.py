"""Records as plain text: aligned columns, Markdown, CSV. Pure; knows nothing of terminals and of what a record is."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

GAP: Final = "  "


def flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a document without nesting: `{"a": {"b": 1}}` becomes `{"a.b": 1}`; lists stay."""
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = None if value == {} else value
    return flat


def pick(document: Mapping[str, Any], field: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return what a document has under a flat name such as `error.code`; None when it has nothing there."""
    value: Any = document
    for name in field.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def as_json(value: Any, indent: int | None = None) -> str:  # noqa: ANN401 - any JSON value
    """Return JSON text that every program can read: text as it is, no NaN."""
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)


def cell(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a JSON value as the text of a cell: nothing for None and empty objects, text as it is, JSON otherwise."""
    if value is None or value == {}:
        return ""
    return value if isinstance(value, str) else as_json(value)


def reading(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a JSON value as a person reads it: as in a cell, and a list of plain values without its brackets."""
    if isinstance(value, list) and all(isinstance(item, (str, int, float)) for item in value):
        return ", ".join(cell(item) for item in value)
    return cell(value)


def comma_separated(documents: Iterable[Mapping[str, Any]], fields: Sequence[str]) -> str:
    """Return documents as CSV with a header: a column per flat name, whatever the documents have."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows([cell(pick(document, field)) for field in fields] for document in documents)
    return buffer.getvalue()


def one_row(text: str) -> str:
    """Return a cell's text on one line, without characters that would steer a terminal."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


def markdown(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; pipes in cells are escaped, line breaks become spaces."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "".join(f"| {' | '.join(one_row(text).replace('|', chr(92) + '|') for text in line)} |\n" for line in lines)


def aligned(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Return rows in columns of equal width, as wide as they need, counted in terminal cells."""
    from rich.cells import cell_len

    flat = [[one_row(text) for text in row] for row in rows]
    widths = [max(cell_len(row[index]) for row in flat) for index in range(len(right))] if flat else []
    lines = []
    for row in flat:
        padded = [
            " " * (width - cell_len(text)) + text if to_right else text + " " * (width - cell_len(text))
            for text, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append(GAP.join(padded).rstrip())
    return "".join(f"{line}\n" for line in lines)
