"""Every reading command in every form of `-o`, over a database without rows and one with all kinds of them."""

import csv
import io
import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cli import command_tree
from cli.doctoring import findings, fleet_checks
from cli.output import Format
from db import datasets, devices, results
from db.artifacts import ArtifactStore
from db.engine import open_database
from emulator.install import FleetPlan, install
from npuq.states import DeviceState, JobKind, JobState
from tests.services.registered import register_folder
from tests.services.world import CHIP, OTHER_CHIP, SLOT, Placed, World, new_result
from tests.unit.cli.answers import Answer, Npuq


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A reading command.

    Attributes:
        arguments: with `{job}` and `{result}` for ids of the filled database.
        one: shows one record, so there is nothing to show in an empty database.
        code: exit code.
        own_json: `-o json` is no list of what the other forms have.
        filled: of the database that has rows.
        rows: there is something to read in that database.
        said: how stderr begins, for a command that says more than it lists.
    """

    arguments: str
    one: bool = False
    code: int = 0
    own_json: bool = False
    filled: bool = True
    rows: bool = True
    said: str = ""


READINGS = (
    Reading(arguments="runs list"),
    Reading(arguments="jobs list"),
    Reading(arguments="devices list --all"),
    Reading(arguments="devices events"),
    Reading(arguments="results list"),
    Reading(arguments="datasets list"),
    Reading(arguments="datasets verify changed", code=1, said="error: changed in "),
    Reading(arguments="datasets verify whole", rows=False),
    Reading(arguments="recipes list"),
    Reading(arguments="config show", own_json=True),
    Reading(arguments="config show --origin"),
    Reading(arguments="results report @last"),
    Reading(arguments="report @last"),
    Reading(arguments="doctor --services", code=1),
    Reading(arguments="emulator show"),
    Reading(arguments="runs show @last", one=True),
    Reading(arguments="jobs show {job}", one=True),
    Reading(arguments="devices show h1.npu0", one=True),
    Reading(arguments="results show {result}", one=True),
    Reading(arguments="recipes show mobilenet_v1", one=True),
    Reading(arguments="datasets show small", one=True),
    Reading(arguments="status", one=True, code=3),
    Reading(arguments="version", one=True),
)
_NEEDS_ROWS = re.compile(r"@last|\{|h1|recipes|emulator|datasets (verify|show)")
#: Read also where no row is.
EMPTY = [reading for reading in READINGS if not _NEEDS_ROWS.search(reading.arguments)]
#: Show something of the installation whether there are rows or not.
_NEVER_EMPTY = {"config show", "config show --origin", "doctor --services", "status", "version"}


@dataclass(frozen=True, kw_only=True)
class Homes:
    """Two homes: one whose database has no rows, one with some of every kind; and ids in the latter."""

    empty: Path
    filled: Path
    ids: dict[str, str]


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Homes:
    """Return both homes; nothing in these tests writes to them."""
    empty, filled = (tmp_path_factory.mktemp(name) for name in ("empty", "filled"))
    install(filled / "emulator", FleetPlan(cards=1))
    for home in (empty, filled):
        shutil.copyfile(sqlite_template, home / "npuq.sqlite3")
    database = open_database(f"sqlite:///{filled / 'npuq.sqlite3'}")
    ids = _fill(World(database))
    for name in ("changed", "whole"):
        _register(World(database), filled, name)
    (filled / "changed" / "val" / "a.JPEG").write_text("an|other\n")
    (filled / "changed" / "val" / "b.JPEG").unlink()
    database.dispose()
    return Homes(empty=empty, filled=filled, ids=ids)


def _fill(world: World) -> dict[str, str]:
    """Add rows that differ in what they have; the last run is one with a result."""
    world.job(JobState.WAITING, JobKind.CONVERT, params={"batch_size": 1, "atc": {"out_nodes": "a|b:0"}})
    failed = world.job(JobState.FAILED, params={"batch_size": 4, "precision": "fp16", "start": 0, "stop": 100})
    world.job(JobState.RUNNING)
    world.transact(datasets.put, name="small", format="imagenet", root='/d, "x"', digest="e" * 64, samples=5)
    world.transact(devices.set_state, CHIP, DeviceState.QUARANTINED, "smells,\n\x1b[31mof | smoke")
    accuracy = {"top1": (71.5, "percent"), "top5": (90.0, "percent")}
    measured = world.new_job(JobKind.BENCHMARK), world.new_job(JobKind.EVALUATE)
    run_id = world.plan(*measured)
    for job, changes in zip(measured, ({}, {"kind": "accuracy", "metrics": accuracy, "samples": 5}), strict=True):
        where = OTHER_CHIP if job.kind is JobKind.BENCHMARK else SLOT
        placed = Placed(job_id=job.job_id, run_id=run_id)
        world.bring(placed, JobState.SUCCEEDED, device_id=where, result=new_result(**changes))
    result = world.read(results.find, run_id=run_id)[0].result_id
    return {"job": failed.job_id, "result": result}


def _register(world: World, home: Path, name: str) -> None:
    """Add a dataset of two images in a folder of its own, its manifest in the home's store."""
    (home / name / "val").mkdir(parents=True)
    for image in "ab":
        (home / name / "val" / f"{image}.JPEG").write_text(image)
    (home / name / "val_label.txt").write_text("a 1\nb 2\n")
    ref = register_folder(home / name, home / f"{name}.json", name=name)
    ArtifactStore(f"file://{home / 'store'}", home / "unused").put(ref.manifest)
    world.transact(
        datasets.put, name=name, format=ref.format, root=str(ref.root), digest=ref.digest, samples=ref.samples
    )


@pytest.fixture(autouse=True)
def quick_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the doctor answer at once: what it finds has tests of its own."""
    found = [findings.ok("clock", "0.0 s"), findings.failed("broker", "no | answer", "start a fleet with: npuq up")]
    monkeypatch.setattr(fleet_checks, "check_fleet", lambda _settings: found)


def _ask(npuq: Npuq, reading: Reading, homes: Homes, form: Format) -> Answer:
    arguments = reading.arguments.format(**homes.ids).split()
    answer = npuq("--home", str(homes.filled if reading.filled else homes.empty), *arguments, "-o", form.value)
    assert answer.code == reading.code, answer.err
    if form is not Format.CSV:  # whose cells are kept to the letter
        assert "\x1b" not in answer.out, "colours, or what somebody wrote to steer a terminal, in a pipe"
    return answer


def _assert_only_said(reading: Reading, answer: Answer) -> None:
    """Nothing is on stderr but what the command has to say there."""
    assert answer.err.startswith(reading.said)
    assert bool(answer.err) == bool(reading.said)


def _documents(npuq: Npuq, reading: Reading, homes: Homes) -> list[dict[str, Any]]:
    """Return what NDJSON says, a document per record."""
    answer = _ask(npuq, reading, homes, Format.NDJSON)
    _assert_only_said(reading, answer)
    return [json.loads(line) for line in answer.out.splitlines()]


CASES = [*READINGS, *(replace(reading, filled=False) for reading in EMPTY)]
each = pytest.mark.parametrize(
    "reading", CASES, ids=lambda case: f"{case.arguments}-{'filled' if case.filled else 'empty'}"
)


@each
def test_json_is_one_document_and_ndjson_the_same_by_line(
    npuq: Npuq,
    homes: Homes,
    reading: Reading,
) -> None:
    """A list for listings, an object for one record; stdout has nothing else and stderr nothing."""
    answer = _ask(npuq, reading, homes, Format.JSON)
    documents = _documents(npuq, reading, homes)
    _assert_only_said(reading, answer)
    if reading.own_json:
        assert isinstance(answer.json, dict)
    else:
        assert answer.json == (documents[0] if reading.one else documents)
    assert bool(documents) == ((reading.filled and reading.rows) or reading.arguments in _NEVER_EMPTY)


@each
def test_csv_has_the_same_columns_whatever_the_rows(
    npuq: Npuq,
    homes: Homes,
    reading: Reading,
) -> None:
    """Every field of the documents has its columns, every row has every column, and no row is lost."""
    answer = _ask(npuq, reading, homes, Format.CSV)
    header, *rows = csv.reader(io.StringIO(answer.out))
    documents = _documents(npuq, reading, homes)
    _assert_only_said(reading, answer)
    assert len(set(header)) == len(header)
    assert [len(row) for row in rows] == [len(header)] * len(documents)
    for document in documents:
        assert {name.split(".")[0] for name in header} == set(document)
    if reading in EMPTY:
        empty = _ask(npuq, replace(reading, filled=False), homes, Format.CSV)
        assert next(csv.reader(io.StringIO(empty.out))) == header


@each
def test_markdown_is_tables_of_whole_rows(
    npuq: Npuq,
    homes: Homes,
    reading: Reading,
) -> None:
    """Header, rule and rows of equally many cells; also without a record."""
    answer = _ask(npuq, reading, homes, Format.MD)
    blocks = [block.splitlines() for block in answer.out.split("\n\n") if not block.startswith("**")]
    assert blocks
    for header, rule, *rows in blocks:
        cells = len(re.findall(r"(?<!\\)\|", header))
        assert set(rule) <= set("|-: ")
        assert all(line.startswith("| ") and line.endswith(" |") for line in (header, *rows))
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in (rule, *rows)} <= {cells}


@each
def test_names_are_a_line_per_record(
    npuq: Npuq,
    homes: Homes,
    reading: Reading,
) -> None:
    """For `xargs`; nothing where there is nothing."""
    answer = _ask(npuq, reading, homes, Format.NAME)
    documents = _documents(npuq, reading, homes)
    wanted = len(documents)
    if "report " in reading.arguments:
        wanted = sum(len(row["result_ids"]) for row in documents)
    _assert_only_said(reading, answer)
    assert len(answer.out.split("\n")) - 1 == wanted
    assert all(answer.out.splitlines())


@each
def test_tables_are_never_wrapped_and_an_empty_one_is_a_sentence(
    npuq: Npuq,
    homes: Homes,
    reading: Reading,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A narrow terminal elsewhere, or a wish for colours, changes nothing in a pipe; the sentence is on stderr."""
    wide = _ask(npuq, reading, homes, Format.TABLE)
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    narrow = _ask(npuq, reading, homes, Format.TABLE)
    assert len(narrow.out.splitlines()) == len(wide.out.splitlines())
    assert bool(wide.out) == (not wide.err or bool(reading.said))


def test_every_command_that_takes_a_form_is_tried() -> None:
    """A new reading command has to be added to the table above; what submits reads nothing."""
    tree = command_tree.LazyCommands(command_tree.TREE)
    taking = set()
    for name, entry in command_tree.TREE.items():
        verbs = tree[name].commands if isinstance(entry, command_tree.Group) else {"": tree[name]}  # type: ignore[union-attr]
        taking |= {f"{name} {verb}".strip() for verb in verbs if _takes_form(verbs[verb])}
    tried = {" ".join(reading.arguments.split()[:2]).removesuffix(" @last") for reading in READINGS} - {
        "doctor --services"
    }
    submitting = {name for name in taking if name.split()[0] in {"submit", "sweep"}}
    assert taking - submitting == tried | {"doctor"}


def _takes_form(command: Any) -> bool:
    return any(parameter.name == "output" for parameter in command.params)
