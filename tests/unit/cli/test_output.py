"""One renderer for all listings: the same records as table, JSON, CSV, Markdown and names."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import pytest

from cli.output import Column, Format, View, show_many, show_one
from cli.text_tables import aligned, comma_separated, flatten, markdown

Record = Mapping[str, Any]
RECORDS: list[Record] = [{"id": "a1", "n": 5, "m": {"x": 1.5}}, {"id": "b22", "n": 10, "m": {"y": None}}]
VIEW: View[Record] = View(
    columns=(
        Column(header="ID", text=lambda record: str(record["id"])),
        Column(header="COUNT", text=lambda record: str(record["n"]), right=True),
    ),
    document=dict,
    fields=("id", "n", "m.x", "m"),
    name=lambda record: str(record["id"]),
    empty="nothing yet",
)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Format.TABLE, "ID   COUNT\na1       5\nb22     10\n"),
        (Format.NAME, "a1\nb22\n"),
        (Format.CSV, 'id,n,m.x,m\na1,5,1.5,"{""x"": 1.5}"\nb22,10,,"{""y"": null}"\n'),
        (Format.MD, "| ID | COUNT |\n| --- | --- |\n| a1 | 5 |\n| b22 | 10 |\n"),
        (Format.NDJSON, '{"id": "a1", "n": 5, "m": {"x": 1.5}}\n{"id": "b22", "n": 10, "m": {"y": null}}\n'),
    ],
)
def test_the_same_records_in_every_form(wanted: Format, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Data on stdout, nothing on stderr."""
    show_many(RECORDS, VIEW, wanted)
    assert capsys.readouterr() == (expected, "")


def test_json_is_one_document_with_raw_values(capsys: pytest.CaptureFixture[str]) -> None:
    """Also when there is nothing: a program gets an empty list."""
    show_many(RECORDS, VIEW, Format.JSON)
    assert json.loads(capsys.readouterr().out) == RECORDS
    show_many([], VIEW, Format.JSON)
    assert capsys.readouterr() == ("[]\n", "")


def test_an_empty_table_says_so_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """And leaves stdout empty for pipes."""
    show_many([], VIEW, Format.TABLE)
    assert capsys.readouterr() == ("", "nothing yet\n")


def test_lists_of_objects_are_tables_below_the_facts(capsys: pytest.CaptureFixture[str]) -> None:
    """The tries of a job, the events of a device: rows, not a line of JSON."""
    record: Record = {"id": "a1", "n": 1, "tries": [{"try": 1, "error": "x"}, {"try": 2, "error": None}]}
    show_one(record, VIEW, Format.TABLE)
    assert capsys.readouterr().out == "id  a1\nn   1\n\ntries:\ntry  error\n1    x\n2\n"
    show_one(record, VIEW, Format.MD)
    assert capsys.readouterr().out.splitlines()[-3:] == ["| --- | --- |", "| 1 | x |", "| 2 |  |"]


def test_one_record_is_a_line_per_fact(capsys: pytest.CaptureFixture[str]) -> None:
    """Facts that are not known are left out."""
    show_one(RECORDS[1], VIEW, Format.TABLE)
    assert capsys.readouterr().out == "id  b22\nn   10\n"


def test_columns_are_aligned_by_what_a_terminal_shows() -> None:
    """Wide characters take two cells; line breaks in a cell do not break the table."""
    assert aligned([["名", "1"], ["ab\nc", "22"]], [False, True]) == "名     1\nab c  22\n"
    assert aligned([], [False]) == ""


def test_markdown_keeps_a_cell_a_cell() -> None:
    """A pipe in it would begin another, a line break would end the row."""
    assert markdown(["a"], [["x|y\nz"]]).splitlines()[-1] == "| x\\|y z |"


def test_what_somebody_wrote_cannot_steer_a_terminal() -> None:
    """The name of a run may hold an escape sequence."""
    assert aligned([["a\x1b[2Jb\x07"]], [False]) == "a[2Jb\n"


def test_csv_survives_what_people_write_into_names() -> None:
    """Commas, quotes and line breaks come back as they were."""
    awkward = 'a, "b"\nc'
    read = list(csv.DictReader(io.StringIO(comma_separated([{"name": awkward, "list": [1, "x"]}], ["name", "list"]))))
    assert read == [{"name": awkward, "list": '[1, "x"]'}]


def test_flatten_joins_keys_with_dots_and_keeps_empty_ones() -> None:
    """A line per fact of one record."""
    assert flatten({"a": {"b": {"c": 1}}, "d": {}, "e": [1]}) == {"a.b.c": 1, "d": None, "e": [1]}
