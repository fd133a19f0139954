import re
from itertools import product
from pathlib import Path

import pytest
from sqlalchemy import select

from db.engine import Database
from db.migrations import guards_0001
from db.tables import JobMove
from npuq import states
from npuq.states import (
    ACTIVE_ATTEMPT_STATES,
    ACTIVE_JOB_STATES,
    ATTEMPT_MOVES,
    DEVICE_KIND_OF_JOB,
    FINAL_JOB_STATES,
    JOB_MOVES,
    AttemptState,
    JobKind,
    JobState,
)


def test_the_three_tables_of_moves_agree(sqlite_database: Database) -> None:
    """What the program documents, what the migration wrote and what the trigger reads are one table."""
    with sqlite_database.read() as connection:
        rows = {(row.from_state, row.to_state) for row in connection.execute(select(JobMove.__table__))}
    assert (
        rows
        == {*guards_0001.JOB_MOVES, ("queued", "succeeded")}
        == {(before.value, after.value) for before, after in JOB_MOVES}
    )


def test_the_attempt_moves_of_the_trigger_are_those_of_the_program() -> None:
    """The condition of the migration names every legal pair and no other."""
    guard = next(guard for guard in guards_0001.GUARDS if guard.name == "guard_attempts_move")
    clauses = re.findall(r"OLD\.state = '(\w+)' AND NEW\.state IN \(([^)]*)\)", guard.violated)
    pairs = {(before, after) for before, group in clauses for after in re.findall(r"'(\w+)'", group)}
    assert pairs == {(before.value, after.value) for before, after in ATTEMPT_MOVES}


def test_every_state_can_be_reached_and_only_success_is_for_ever() -> None:
    """From `waiting` there is a way to every state; only `succeeded` has no way out."""
    reached = {JobState.WAITING}
    while more := {after for before, after in JOB_MOVES if before in reached} - reached:
        reached |= more
    assert reached == set(JobState)
    assert {state for state in JobState if not any(before is state for before, _ in JOB_MOVES)} == {JobState.SUCCEEDED}


def test_a_person_alone_moves_a_job_out_of_a_final_state() -> None:
    """Nothing in the program retries what was given up."""
    for (before, after), who in JOB_MOVES.items():
        if before in FINAL_JOB_STATES:
            assert after is JobState.WAITING
            assert who.startswith("person")


def test_active_states_match_active_attempts() -> None:
    """A job is dispatched or running exactly when an attempt of it is."""
    assert {state.value for state in ACTIVE_JOB_STATES} == {state.value for state in ACTIVE_ATTEMPT_STATES}
    ended = set(AttemptState) - ACTIVE_ATTEMPT_STATES
    assert not [pair for pair in product(ended, AttemptState) if pair in ATTEMPT_MOVES]


def test_every_kind_of_job_has_a_kind_of_device() -> None:
    """No kind is forgotten when one is added."""
    assert set(DEVICE_KIND_OF_JOB) == set(JobKind)


@pytest.mark.parametrize("state", list(JobState))
def test_every_state_says_what_it_means(state: JobState) -> None:
    """The declaration of each job state is followed by its meaning."""
    source = Path(states.__file__).read_text()
    assert re.search(rf'    {state.name} = "{state.value}"\n    """[A-Z]', source)
