"""The checker must see what it looks for: a clean history passes, and each way of breaking a promise is named."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from npuq.states import AttemptState, JobKind, JobState, RunState
from tests.chaos.checker import Rule, check
from tests.chaos.evidence import (
    AttemptRow,
    EventRow,
    Evidence,
    Execution,
    JobRow,
    ResultRow,
    RunRow,
    executions,
    owners,
)

CHIP, OTHER = "h1.npu0.0", "h1.npu1.0"
START = datetime(2026, 1, 1, tzinfo=UTC)


def _at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def _attempt(number: int, state: AttemptState, began: float, ended: float, device: str = CHIP) -> AttemptRow:
    return AttemptRow(
        job_id="a",
        number=number,
        device_id=device,
        state=state,
        created_at=_at(began),
        started_at=_at(began),
        finished_at=_at(ended),
    )


def _events(*moves: tuple[int, str | None, str]) -> list[EventRow]:
    return [EventRow(job_id="a", attempt=number, from_state=before, to_state=after) for number, before, after in moves]


def _clean() -> Evidence:
    """Return a history: job `a` was lost once on one chip and then succeeded on another."""
    return Evidence(
        submitted={"r": 1},
        runs=[RunRow(run_id="r", state=RunState.SUCCEEDED)],
        jobs=[
            JobRow(
                job_id="a",
                run_id="r",
                kind=JobKind.BENCHMARK,
                state=JobState.SUCCEEDED,
                attempt=2,
                digests=frozenset({"d"}),
            )
        ],
        attempts=[
            _attempt(1, AttemptState.LOST, 0, 10),
            _attempt(2, AttemptState.SUCCEEDED, 11, 20, OTHER),
        ],
        events=_events(
            (0, None, "waiting"),
            (0, "waiting", "queued"),
            (1, "queued", "dispatched"),
            (1, "dispatched", "running"),
            (1, "running", "queued"),
            (2, "queued", "dispatched"),
            (2, "dispatched", "running"),
            (2, "running", "succeeded"),
        ),
        results=[ResultRow(job_id="a", attempt=2, device_id=OTHER)],
        logic_ids={CHIP: 0, OTHER: 1},
        executions=[
            Execution(pid=10, logic_id=0, work=("a", 1), began=1.0, ended=2.0, ok=True),
            Execution(pid=11, logic_id=1, work=("a", 2), began=12.0, ended=13.0, ok=True),
        ],
        owners={0: [10, 10], 1: [11, 11]},
        intact=frozenset({"d"}),
    )


def test_a_history_with_an_explained_loss_is_clean() -> None:
    """An extra run on a chip is no violation when its attempt was lost."""
    assert check(_clean()) == []


def _job(**changes: Any) -> Callable[[Evidence], Evidence]:
    return lambda clean: replace(clean, jobs=[replace(clean.jobs[0], **changes)])


def _change(**changes: Any) -> Callable[[Evidence], Evidence]:
    return lambda clean: replace(clean, **changes)


def _first_execution(**changes: Any) -> Callable[[Evidence], Evidence]:
    return lambda clean: replace(clean, executions=[replace(clean.executions[0], **changes), *clean.executions[1:]])


BROKEN: list[tuple[str, Rule, Callable[[Evidence], Evidence]]] = [
    ("run missing", Rule.LOST, _change(submitted={"r": 1, "s": 1})),
    ("job missing", Rule.LOST, _change(submitted={"r": 2})),
    ("run open", Rule.LOST, _change(runs=[RunRow(run_id="r", state=RunState.ACTIVE)])),
    ("failed without a reason", Rule.LOST, _job(state=JobState.FAILED)),
    ("cancelled by nobody", Rule.LOST, _job(state=JobState.CANCELLED)),
    ("converted twice", Rule.DIARY, _change(conversions=[("a", 1), ("a", 1)])),
    ("converted for nobody", Rule.DIARY, _change(conversions=[("a", 9)])),
    ("job open", Rule.LOST, _job(state=JobState.QUEUED)),
    ("no result", Rule.RESULT, _change(results=[])),
    ("two results", Rule.RESULT, lambda clean: replace(clean, results=[*clean.results] * 2)),
    ("result of a lost attempt", Rule.RESULT, _change(results=[ResultRow(job_id="a", attempt=1, device_id=CHIP)])),
    (
        "result of nobody",
        Rule.RESULT,
        lambda clean: replace(clean, results=[*clean.results, ResultRow(job_id="z", attempt=1, device_id=CHIP)]),
    ),
    ("cancelled with a result", Rule.CANCELLED, _job(state=JobState.CANCELLED)),
    (
        "succeeded by a failed attempt",
        Rule.RESULT,
        lambda clean: replace(
            clean, attempts=[clean.attempts[0], replace(clean.attempts[1], state=AttemptState.FAILED)]
        ),
    ),
    (
        "two attempts of a job at once",
        Rule.OWNER,
        lambda clean: replace(clean, attempts=[clean.attempts[0], _attempt(2, AttemptState.SUCCEEDED, 9, 20, OTHER)]),
    ),
    (
        "two attempts on a device at once",
        Rule.OWNER,
        lambda clean: replace(
            clean, attempts=[*clean.attempts, replace(_attempt(1, AttemptState.LOST, 15, 16, OTHER), job_id="b")]
        ),
    ),
    (
        "attempt still active",
        Rule.OWNER,
        lambda clean: replace(
            clean, attempts=[replace(clean.attempts[0], state=AttemptState.RUNNING), clean.attempts[1]]
        ),
    ),
    ("attempt missing", Rule.FENCE, lambda clean: replace(clean, attempts=clean.attempts[1:])),
    ("fence too high", Rule.FENCE, _job(attempt=3)),
    ("artifact damaged", Rule.ARTIFACT, _change(intact=frozenset())),
    ("event missing", Rule.HISTORY, lambda clean: replace(clean, events=[*clean.events[:3], *clean.events[4:]])),
    ("log ends early", Rule.HISTORY, lambda clean: replace(clean, events=clean.events[:-1])),
    (
        "illegal move",
        Rule.HISTORY,
        lambda clean: replace(clean, events=[*clean.events, *_events((2, "succeeded", "running"))]),
    ),
    (
        "attempt not as the log says",
        Rule.HISTORY,
        lambda clean: replace(
            clean, attempts=[replace(clean.attempts[0], state=AttemptState.WITHDRAWN), clean.attempts[1]]
        ),
    ),
    ("result without a run", Rule.DIARY, lambda clean: replace(clean, executions=clean.executions[:1])),
    ("run of an unknown attempt", Rule.DIARY, _first_execution(work=("a", 7))),
    ("run from nowhere", Rule.DIARY, _first_execution(work=None)),
    ("run on another chip", Rule.DIARY, _first_execution(logic_id=1)),
    (
        "run of a withdrawn attempt",
        Rule.DIARY,
        lambda clean: replace(
            clean,
            attempts=[replace(clean.attempts[0], state=AttemptState.WITHDRAWN), clean.attempts[1]],
            events=[*clean.events[:3], *_events((1, "dispatched", "queued")), *clean.events[5:]],
        ),
    ),
    (
        "an attempt in two processes",
        Rule.DIARY,
        lambda clean: replace(
            clean, executions=[*clean.executions, replace(clean.executions[1], pid=12, began=14.0, ended=15.0)]
        ),
    ),
    (
        "two processes at once on a chip",
        Rule.DIARY,
        lambda clean: replace(
            clean, executions=[*clean.executions, replace(clean.executions[1], pid=12, began=12.5, ended=15.0)]
        ),
    ),
    ("a former owner came back", Rule.DIARY, _change(owners={0: [10, 11, 10]})),
]


@pytest.mark.parametrize(("rule", "damage"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_broken_promise_is_found(rule: Rule, damage: Callable[[Evidence], Evidence]) -> None:
    """Each damage to a clean history is reported under the rule that it breaks."""
    assert rule in {violation.rule for violation in check(damage(_clean()))}


def _entry(event: str, pid: int, seconds: float, **more: Any) -> dict[str, Any]:
    return {"event": event, "pid": pid, "monotonic": seconds, "device": 0, "cwd": "/w/work/d/ab12.3/step", **more}


def test_the_diary_is_read_as_executions() -> None:
    """Starts are paired with ends by process; a process that died leaves an execution without an end."""
    diary = [
        _entry("session_open", 1, 0.0),
        _entry("run_start", 1, 1.0),
        _entry("run_end", 1, 2.0, ok=True),
        _entry("run_start", 1, 3.0),
        _entry("run_start", 2, 4.0, cwd=None),
        _entry("run_end", 2, 5.0, ok=False, cwd=None),
    ]
    assert executions(diary) == [
        Execution(pid=1, logic_id=0, work=("ab12", 3), began=1.0, ended=2.0, ok=True),
        Execution(pid=1, logic_id=0, work=("ab12", 3), began=3.0),
        Execution(pid=2, logic_id=0, work=None, began=4.0, ended=5.0, ok=False),
    ]
    assert owners(diary) == {0: [1, 1, 1, 1, 2, 2]}
