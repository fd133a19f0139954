"""Following what still waits in the outbox: told at once, delivered meanwhile, and known by its id from the start."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.watching import delivery, waiting
from cli.watching.verdict import exit_code
from db import runs
from npuq.client import NOBODY_LISTENS, Client, Submission
from npuq.errors import Blame, ErrorInfo
from npuq.outbox import Outbox
from npuq.specs import RunSpec
from npuq.states import JobState, RunState
from tests.services.world import INPUT_ERROR, World, run_spec
from tests.unit.cli.answers import Npuq
from tests.unit.cli.records import job_record

CHIP_ERROR = ErrorInfo(code="device_failed", blame=Blame.DEVICE, message="the chip failed", retry=True)


@pytest.fixture
def submitted(tmp_path: Path) -> RunSpec:
    """Return a submission that waits in the outbox of the home, younger than every row of a test."""
    spec = run_spec(submitted_at=datetime.now(UTC) + timedelta(seconds=1))
    Outbox(tmp_path / "outbox").put(spec)
    return spec


def _taken_at_the_second_look(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Let the fleet take a submission, and refuse the run, when it is sent for the second time."""
    answers: Iterator[bool] = iter([False, True])

    def deliver(_client: Client, spec: RunSpec) -> Submission:
        if not next(answers):
            return Submission(run_id=spec.run_id, sent=True, seen=False, problem=NOBODY_LISTENS)
        world.transact(runs.accept, spec)
        world.transact(runs.refuse, spec.run_id, "no dataset 'small' is registered")
        return Submission(run_id=spec.run_id, sent=True, seen=True)

    monkeypatch.setattr(Client, "deliver", deliver)
    monkeypatch.setattr(Client, "flush_outbox", lambda _client: 1)
    monkeypatch.setattr(delivery, "POLL_SECONDS", 0)


@pytest.mark.parametrize("command", ["watch", "wait"])
def test_a_submission_in_the_outbox_is_told_at_once(command: str, npuq: Npuq, submitted: RunSpec) -> None:
    """Also where there is no fleet at all: since when it waits, why, what to do; and the limit holds."""
    answer = npuq(command, submitted.run_id[:20], "--timeout", "0s")
    assert answer.code == 4
    first, advice, *_ = answer.err.splitlines()
    assert first.startswith(f"run {submitted.run_id} waits in the outbox since")
    assert "cannot reach Redis" in first
    assert advice == "  start the fleet with: npuq up"
    assert f"npuq {command} {submitted.run_id}" in answer.err


@pytest.mark.parametrize("command", ["watch", "wait"])
def test_a_submission_is_followed_from_the_outbox_to_its_end(
    command: str, npuq: Npuq, sqlite_world: World, submitted: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delivered while somebody looks; then its end is told and gives the exit code."""
    _taken_at_the_second_look(monkeypatch, sqlite_world)
    answer = npuq(command, "@last", "--timeout", "30s")
    assert answer.code == 1
    assert NOBODY_LISTENS in answer.err
    assert f"the fleet has taken run {submitted.run_id}" in answer.err
    assert f"run {submitted.run_id} failed" in answer.err


@pytest.mark.usefixtures("sqlite_world")
@pytest.mark.parametrize("command", ["watch", "wait"])
def test_an_id_that_nobody_knows_is_a_usage_error(command: str, npuq: Npuq) -> None:
    """It is in neither place, so nothing is waited for."""
    answer = npuq(command, "0123abcd")
    assert answer.code == 2
    assert "no run or job begins with '0123abcd'" in answer.err


@pytest.mark.parametrize(("younger", "code"), [(True, 4), (False, 0)])
def test_last_is_the_newest_of_outbox_and_database(
    *, younger: bool, code: int, npuq: Npuq, sqlite_world: World, tmp_path: Path
) -> None:
    """What was submitted last, wherever it is."""
    sqlite_world.job(JobState.SUCCEEDED)
    sqlite_world.transact(runs.settle)
    age = timedelta(seconds=60 if younger else -60)
    Outbox(tmp_path / "outbox").put(run_spec(submitted_at=datetime.now(UTC) + age))
    assert npuq("wait", "@last", "--timeout", "0s").code == code


def test_the_outbox_is_listed_among_the_runs(npuq: Npuq, sqlite_world: World, submitted: RunSpec) -> None:
    """As submitted, with the documented fields; filters count for it too."""
    job = sqlite_world.job(JobState.RUNNING)
    first, second = npuq("runs", "list", "-o", "json").json
    assert (first["run_id"], first["state"], first["jobs"]) == (submitted.run_id, "submitted", {})
    assert second["run_id"] == job.run_id
    assert set(first) == set(second)
    assert npuq("runs", "show", "@last", "-o", "json").json == first
    assert npuq("runs", "list", "--recipe", "other", "-o", "name").out == ""
    assert npuq("runs", "list", "--limit", "1", "-o", "name").out == f"{submitted.run_id}\n"


def test_the_outbox_is_listed_without_a_fleet(npuq: Npuq, submitted: RunSpec) -> None:
    """Nothing else is known; what to do is on stderr."""
    answer = npuq("runs", "list", "-o", "name")
    assert (answer.code, answer.out) == (0, f"{submitted.run_id}\n")
    assert "npuq up" in answer.err


def test_why_says_that_a_submission_waits_and_for_what(npuq: Npuq, submitted: RunSpec) -> None:
    """On stdout, as every other reason; it is sent again meanwhile."""
    answer = npuq("why", "@last")
    assert answer.code == 0
    assert answer.out.startswith(f"run {submitted.run_id} waits in the outbox since")
    assert "npuq up" in answer.out


@pytest.mark.usefixtures("sqlite_world")
@pytest.mark.parametrize("command", [("retry",), ("logs",), ("jobs", "list", "--run"), ("results", "report")])
def test_a_command_that_needs_the_fleet_says_where_the_run_is(
    command: tuple[str, ...], npuq: Npuq, submitted: RunSpec
) -> None:
    """`@last` must not fall back on an older run: nothing is wrong with the input, so 3."""
    answer = npuq(*command, "@last")
    assert answer.code == 3
    assert f"run {submitted.run_id} still waits in the outbox" in answer.err


@pytest.mark.parametrize("fleet", [False, True])
def test_a_submission_is_taken_back(
    fleet: bool,  # noqa: FBT001 - a parameter
    npuq: Npuq,
    submitted: RunSpec,
    request: pytest.FixtureRequest,
) -> None:
    """Out of the outbox where there is no fleet; else in its history, so that a message on the way is too late."""
    world: World | None = request.getfixturevalue("sqlite_world") if fleet else None
    answer = npuq("cancel", "@last")
    assert answer.code == 0
    assert f"run {submitted.run_id}: " in answer.err
    assert npuq("why", submitted.run_id).code == (0 if fleet else 3)
    if world is not None:
        assert not world.transact(runs.accept, submitted)
        assert world.run_state(submitted.run_id) is RunState.CANCELLED


def test_what_was_sent_is_not_said_to_be_taken_back(npuq: Npuq, submitted: RunSpec, tmp_path: Path) -> None:
    """Without the database nobody can keep a scheduler from taking the message."""
    outbox = Outbox(tmp_path / "outbox")
    outbox.mark_sent(submitted.run_id)
    assert npuq("cancel", "@last").code == 3
    assert [spec.run_id for spec in outbox.pending()] == [submitted.run_id]


def test_letting_go_of_a_wait_says_how_to_come_back(
    npuq: Npuq, sqlite_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `watch` does."""
    job = sqlite_world.job(JobState.RUNNING)

    def interrupt(_session: object, _awaited: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(waiting, "_ended", interrupt)
    answer = npuq("wait", job.job_id)
    assert answer.code == 130
    assert f"npuq wait {job.job_id}" in answer.err


@pytest.mark.parametrize(
    ("state", "errors", "code"),
    [
        (RunState.SUCCEEDED, [], 0),
        (RunState.FAILED, [], 1),
        (RunState.FAILED, [INPUT_ERROR], 1),
        (RunState.FAILED, [CHIP_ERROR, INPUT_ERROR], 1),
        (RunState.FAILED, [CHIP_ERROR, CHIP_ERROR], 3),
        (JobState.HELD, [CHIP_ERROR], 3),
        (RunState.CANCELLED, [], 1),
    ],
)
def test_the_exit_code_says_whether_anything_was_wrong_with_the_input(
    state: RunState | JobState, errors: list[ErrorInfo], code: int
) -> None:
    """3 only when every failure is a device's, a host's or the fleet's."""
    assert exit_code(state, [job_record(state=JobState.FAILED, error=error) for error in errors]) == code


def test_a_delivery_ends_at_its_deadline(npuq: Npuq, submitted: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is told once, however often it is tried."""
    monkeypatch.setattr(delivery, "POLL_SECONDS", 0)
    answer = npuq("wait", submitted.run_id, "--timeout", "0.3s")
    assert answer.code == 4
    assert answer.err.count("waits in the outbox since") == 1


@pytest.mark.parametrize(
    ("embedded", "problem", "advice"),
    [
        (True, NOBODY_LISTENS, "npuq up"),
        (False, NOBODY_LISTENS, "npuq scheduler"),
        (False, "cannot reach Redis (refused)", "npuq doctor"),
    ],
)
def test_the_advice_fits_the_fleet(*, embedded: bool, problem: str, advice: str) -> None:
    """`npuq up` starts only the fleet of this home."""
    spec = run_spec()
    submission = Submission(run_id=spec.run_id, sent=False, seen=False, problem=problem)
    told = delivery.explain(submission, spec, embedded=embedded, now=spec.submitted_at + timedelta(minutes=3))
    assert f"3m ago: {problem}" in told
    assert advice in told
