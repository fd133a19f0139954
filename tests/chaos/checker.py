"""Whether a fleet that was abused has kept its promises: a pure function over what is left.

The rules are I1-I5, I7, I8 and I10 of the reliability study. The emulator's diary is written outside the system, so
that the last rule is not the system grading itself.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from npuq.states import (
    ACTIVE_ATTEMPT_STATES,
    FINAL_JOB_STATES,
    FINAL_RUN_STATES,
    JOB_MOVES,
    AttemptState,
    JobKind,
    JobState,
)
from tests.chaos.evidence import AttemptRow, EventRow, Evidence, Execution, JobRow, referenced


class Rule(StrEnum):
    """What was promised."""

    LOST = "I1"  #: every submitted job is in one final state: succeeded, unless a person cancelled it
    RESULT = "I2"  #: succeeded <=> exactly one result, of a succeeded attempt
    OWNER = "I3"  #: no job and no device has two attempts at once
    FENCE = "I4"  #: attempts are numbered 1..n
    ARTIFACT = "I5"  #: every digest that a row names is in the store, undamaged
    CANCELLED = "I7"  #: what was cancelled has no result
    HISTORY = "I8"  #: the event log replays to the rows
    DIARY = "I10"  #: the diary of the chips agrees


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A broken promise: which, about what, and how."""

    rule: Rule
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule} {self.subject}: {self.text}"


#: What an attempt that has run leaves in the event log: the move of the job that ended it.
_ENDS: Final[Mapping[AttemptState, frozenset[tuple[str, str]]]] = {
    AttemptState.SUCCEEDED: frozenset({("running", "succeeded")}),
    AttemptState.FAILED: frozenset(
        {("running", "queued"), ("running", "failed"), ("running", "held"), ("running", "cancelled")}
    ),
    AttemptState.LOST: frozenset({("running", "queued"), ("running", "held"), ("running", "cancelled")}),
    AttemptState.RELEASED: frozenset({("running", "queued"), ("running", "cancelled")}),
    AttemptState.CANCELLED: frozenset({("running", "cancelled"), ("dispatched", "cancelled")}),
    AttemptState.WITHDRAWN: frozenset({("dispatched", "queued")}),
}
#: Attempts that may have touched their chip without leaving a result.
_EXPLAINS_A_RUN: Final = frozenset(
    {AttemptState.LOST, AttemptState.FAILED, AttemptState.RELEASED, AttemptState.CANCELLED}
)
_LEGAL: Final = frozenset((before.value, after.value) for before, after in JOB_MOVES)


def check(evidence: Evidence) -> list[Violation]:
    """Return every broken promise; empty when all were kept."""
    rules: Sequence[Callable[[Evidence], Iterator[Violation]]] = (
        _nothing_lost,
        _results_match,
        _one_attempt_at_a_time,
        _attempts_numbered,
        _artifacts_there,
        _history_replays,
        _diary_agrees,
        _conversions_ran_once,
        _chips_have_one_owner,
    )
    return [violation for rule in rules for violation in rule(evidence)]


def _by_job(attempts: Iterable[AttemptRow]) -> dict[str, list[AttemptRow]]:
    found: dict[str, list[AttemptRow]] = defaultdict(list)
    for attempt in attempts:
        found[attempt.job_id].append(attempt)
    return found


def _nothing_lost(evidence: Evidence) -> Iterator[Violation]:
    runs = {run.run_id: run.state for run in evidence.runs}
    planned = Counter(job.run_id for job in evidence.jobs if job.kind is JobKind.BENCHMARK)
    for run_id, wanted in evidence.submitted.items():
        if run_id not in runs:
            yield Violation(rule=Rule.LOST, subject=f"run {run_id}", text="was submitted and is not in the database")
        elif planned[run_id] != wanted:
            text = f"has {planned[run_id]} benchmark jobs, submitted were {wanted}"
            yield Violation(rule=Rule.LOST, subject=f"run {run_id}", text=text)
        elif runs[run_id] not in FINAL_RUN_STATES:
            yield Violation(rule=Rule.LOST, subject=f"run {run_id}", text=f"is still {runs[run_id]}")
    for job in evidence.jobs:
        if job.state not in FINAL_JOB_STATES:
            yield Violation(rule=Rule.LOST, subject=f"job {job.job_id}", text=f"is still {job.state}")
        elif job.state is not JobState.SUCCEEDED and job.job_id not in evidence.cancelled:
            text = f"is {job.state}, though nothing was wrong with it"
            yield Violation(rule=Rule.LOST, subject=f"{job.kind} job {job.job_id}", text=text)


def _results_match(evidence: Evidence) -> Iterator[Violation]:
    results: dict[str, list[int]] = defaultdict(list)
    for result in evidence.results:
        results[result.job_id].append(result.attempt)
    states = {(attempt.job_id, attempt.number): attempt.state for attempt in evidence.attempts}
    for job in evidence.jobs:
        found = results.pop(job.job_id, [])
        wanted = 1 if job.kind is JobKind.BENCHMARK and job.state is JobState.SUCCEEDED else 0
        if len(found) != wanted:
            rule = Rule.CANCELLED if job.state is JobState.CANCELLED else Rule.RESULT
            text = f"is {job.state} and has {len(found)} results"
            yield Violation(rule=rule, subject=f"{job.kind} job {job.job_id}", text=text)
        by = states.get((job.job_id, job.attempt))
        if job.state is JobState.SUCCEEDED and not job.reused and by is not AttemptState.SUCCEEDED:
            text = f"succeeded, but its attempt {job.attempt} is {by}"
            yield Violation(rule=Rule.RESULT, subject=f"job {job.job_id}", text=text)
        for number in found:
            if number != job.attempt:
                text = f"has a result of attempt {number}, its newest is {job.attempt}"
                yield Violation(rule=Rule.RESULT, subject=f"job {job.job_id}", text=text)
    for job_id in results:
        yield Violation(rule=Rule.RESULT, subject=f"job {job_id}", text="has a result and does not exist")


def _one_attempt_at_a_time(evidence: Evidence) -> Iterator[Violation]:
    per_job: dict[str, list[tuple[datetime, datetime, str]]] = defaultdict(list)
    per_device: dict[str, list[tuple[datetime, datetime, str]]] = defaultdict(list)
    for attempt in evidence.attempts:
        name = f"{attempt.job_id}.{attempt.number}"
        if attempt.state in ACTIVE_ATTEMPT_STATES or attempt.finished_at is None:
            yield Violation(rule=Rule.OWNER, subject=name, text=f"is still {attempt.state}")
            continue
        per_job[attempt.job_id].append((attempt.created_at, attempt.finished_at, name))
        if attempt.started_at is not None:
            per_device[attempt.device_id].append((attempt.started_at, attempt.finished_at, name))
    for subject, spans in [*per_job.items(), *per_device.items()]:
        for (_, ended, first), (began, _, second) in _neighbours(spans):
            if began < ended:
                text = f"{second} began {(ended - began).total_seconds():.3f} s before {first} ended"
                yield Violation(rule=Rule.OWNER, subject=subject, text=text)


def _neighbours(
    spans: list[tuple[datetime, datetime, str]],
) -> Iterator[tuple[tuple[datetime, datetime, str], tuple[datetime, datetime, str]]]:
    ordered = sorted(spans)
    return itertools.pairwise(ordered)


def _attempts_numbered(evidence: Evidence) -> Iterator[Violation]:
    by_job = _by_job(evidence.attempts)
    for job in evidence.jobs:
        numbers = sorted(attempt.number for attempt in by_job.get(job.job_id, []))
        if numbers != list(range(1, job.attempt + 1)):
            text = f"is at attempt {job.attempt} and has attempts {numbers}"
            yield Violation(rule=Rule.FENCE, subject=f"job {job.job_id}", text=text)


def _artifacts_there(evidence: Evidence) -> Iterator[Violation]:
    for digest in sorted(referenced(evidence.jobs, evidence.attempts) - evidence.intact):
        yield Violation(rule=Rule.ARTIFACT, subject=digest, text="is missing from the store, or damaged")


# --- the event log ---------------------------------------------------------------------------------------------------


def _history_replays(evidence: Evidence) -> Iterator[Violation]:
    events: dict[str, list[EventRow]] = defaultdict(list)
    for event in evidence.events:
        events[event.job_id].append(event)
    attempts = _by_job(evidence.attempts)
    for job in evidence.jobs:
        for text in _replay(job, events[job.job_id], attempts.get(job.job_id, [])):
            yield Violation(rule=Rule.HISTORY, subject=f"job {job.job_id}", text=text)


def _replay(job: JobRow, events: Sequence[EventRow], attempts: Sequence[AttemptRow]) -> Iterator[str]:
    """Yield what does not fit between a job's events and its rows."""
    state: str | None = None
    ends: dict[int, tuple[str, str]] = {}
    for event in events:
        if event.from_state != state:
            yield f"was {state}, and its log goes on from {event.from_state}"
        if event.from_state is None:
            if event.to_state != JobState.WAITING:
                yield f"was born {event.to_state}"
        elif (event.from_state, event.to_state) not in _LEGAL:
            yield f"moved from {event.from_state} to {event.to_state}"
        if event.from_state in {"dispatched", "running"} and event.to_state != "running":
            ends[event.attempt] = (event.from_state, event.to_state)
        state = event.to_state
    if state != job.state:
        yield f"is {job.state}, its log ends with {state}"
    for attempt in attempts:
        allowed = _ENDS.get(attempt.state, frozenset())
        if ends.get(attempt.number) not in allowed:
            yield f"attempt {attempt.number} is {attempt.state}, its log says {ends.get(attempt.number)}"


# --- the diary -------------------------------------------------------------------------------------------------------


def _diary_agrees(evidence: Evidence) -> Iterator[Violation]:
    attempts = {(attempt.job_id, attempt.number): attempt for attempt in evidence.attempts}
    seen: dict[tuple[str, int], list[Execution]] = defaultdict(list)
    for execution in evidence.executions:
        if execution.work is None:
            yield Violation(rule=Rule.DIARY, subject=f"chip {execution.logic_id}", text="ran for an unknown attempt")
        else:
            seen[execution.work].append(execution)
    for result in evidence.results:
        runs = seen.get((result.job_id, result.attempt), [])
        if not any(run.ok and run.logic_id == evidence.logic_ids.get(result.device_id or "") for run in runs):
            subject = f"result of {result.job_id}.{result.attempt}"
            text = f"the diary of {result.device_id} knows no such run"
            yield Violation(rule=Rule.DIARY, subject=subject, text=text)
    for work, runs in seen.items():
        yield from _explained(work, runs, attempts.get(work), evidence.logic_ids)


def _explained(
    work: tuple[str, int], runs: Sequence[Execution], attempt: AttemptRow | None, logic_ids: Mapping[str, int]
) -> Iterator[Violation]:
    subject = f"{work[0]}.{work[1]}"
    if attempt is None:
        yield Violation(rule=Rule.DIARY, subject=subject, text="ran on a chip and is no attempt")
        return
    if attempt.state is not AttemptState.SUCCEEDED and attempt.state not in _EXPLAINS_A_RUN:
        yield Violation(rule=Rule.DIARY, subject=subject, text=f"ran on a chip and is {attempt.state}")
    chips = {run.logic_id for run in runs}
    if chips != {logic_ids.get(attempt.device_id)}:
        text = f"was given to {attempt.device_id} and ran on chips {sorted(chips)}"
        yield Violation(rule=Rule.DIARY, subject=subject, text=text)
    if len({run.pid for run in runs}) > 1:
        yield Violation(rule=Rule.DIARY, subject=subject, text="one attempt ran in several processes")


def _conversions_ran_once(evidence: Evidence) -> Iterator[Violation]:
    known = {(attempt.job_id, attempt.number) for attempt in evidence.attempts}
    for work, count in Counter(evidence.conversions).items():
        if work not in known:
            yield Violation(rule=Rule.DIARY, subject=f"ATC for {work}", text="is no attempt")
        elif count > 1:
            yield Violation(rule=Rule.DIARY, subject=f"ATC for {work}", text=f"ran {count} times")


def _chips_have_one_owner(evidence: Evidence) -> Iterator[Violation]:
    """Executions of different processes never overlap, and a chip that passed on never goes back."""
    per_chip: dict[int, list[Execution]] = defaultdict(list)
    for execution in evidence.executions:
        per_chip[execution.logic_id].append(execution)
    for logic_id, runs in per_chip.items():
        for first, second in itertools.pairwise(runs):
            if first.pid != second.pid and first.ended is not None and second.began < first.ended:
                text = f"processes {first.pid} and {second.pid} executed at once"
                yield Violation(rule=Rule.DIARY, subject=f"chip {logic_id}", text=text)
    for logic_id, pids in evidence.owners.items():
        former: set[int] = set()
        for before, after in itertools.pairwise(pids):
            if after != before:
                former.add(before)
                if after in former:
                    text = f"process {after} came back after process {before} had taken over"
                    yield Violation(rule=Rule.DIARY, subject=f"chip {logic_id}", text=text)
