# ruff: noqa: S608 - the statements are literals of this file
"""What the database itself refuses, whoever asks: each test tries the illegal act with raw SQL."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db import jobs
from db.migrations import guards_0001, guards_0004
from npuq.retry import Decision
from npuq.states import ATTEMPT_MOVES, JOB_MOVES, AttemptState, DeviceState, JobKind, JobState, Quality, RunState
from tests.services.world import (
    CHIP,
    DIGEST,
    HOST,
    HOST_ERROR,
    OTHER_CHIP,
    OWNER,
    Placed,
    World,
    completion,
    new_result,
)

NOW = "CURRENT_TIMESTAMP"
GUARDS = (*guards_0001.GUARDS, *guards_0004.GUARDS)


def act(world: World, statement: str, **values: Any) -> None:
    """Run one raw statement, and undo it if it was let through."""
    with world.database.engine.connect() as connection, connection.begin() as transaction:
        connection.execute(text(statement), values)
        transaction.rollback()


def refused(world: World, reason: str, statement: str, **values: Any) -> None:
    """Assert that a raw statement is refused for the expected reason."""
    with pytest.raises(DBAPIError, match=reason):
        act(world, statement, **values)


def insert_attempt(job: Placed, number: int, **changes: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the raw insertion of an attempt."""
    values = {"job": job.job_id, "number": number, "device": CHIP, "state": "dispatched"} | changes
    columns = "job_id, number, device_id, state, beats, publishes, created_at"
    return f"INSERT INTO attempts ({columns}) VALUES (:job, :number, :device, :state, 0, 0, {NOW})", values


INSERT_RESULT = (
    "INSERT INTO results (id, run_id, job_id, attempt, kind, recipe, recipe_version, emulated, batch_size, precision, "
    f"quality, facts, created_at) VALUES (:id, :run, :job, :attempt, :kind, 'r', 1, true, 1, 'fp16', 'clean', '{{}}', "
    f"{NOW})"
)


def result_values(job: Placed, **changes: Any) -> dict[str, Any]:
    """Return the values of a raw result."""
    values = {"id": "e" * 32, "run": job.run_id, "job": job.job_id, "attempt": job.attempt, "kind": "performance"}
    return values | changes


def test_every_illegal_move_of_a_job_is_refused(world: World) -> None:
    """Of all pairs of states only those of the table pass the trigger."""
    examples: dict[JobState, Placed] = {state: world.job(state) for state in JobState if state is not JobState.RUNNING}
    examples[JobState.RUNNING] = world.job(JobState.RUNNING)  # last: it keeps the chip
    for other in ("guard_jobs_fence", "guard_jobs_running", "guard_jobs_succeeded"):
        _drop(world, other)  # these would refuse some of the moves too, and in which order differs
    for before, after in itertools.permutations(JobState, 2):
        if (before, after) not in JOB_MOVES:
            values = {"job": examples[before].job_id, "state": after.value}
            refused(world, "illegal move of a job", "UPDATE jobs SET state = :state WHERE id = :job", **values)


def test_every_illegal_move_of_an_attempt_is_refused(world: World) -> None:
    """Of all pairs of states only those of the table pass the trigger; an ended attempt stays as it is."""
    attempts = _attempts_in_every_state(world)
    for before, after in itertools.permutations(AttemptState, 2):
        if (before, after) not in ATTEMPT_MOVES:
            values = {"job": attempts[before].job_id, "number": attempts[before].attempt, "state": after.value}
            refused(
                world,
                "illegal move of an attempt",
                "UPDATE attempts SET state = :state WHERE job_id = :job AND number = :number",
                **values,
            )


def _attempts_in_every_state(world: World) -> dict[AttemptState, Placed]:
    again = Decision(state=JobState.QUEUED, failures=0, losses=1)
    withdrawn = world.job(JobState.DISPATCHED)
    world.transact(jobs.withdraw, withdrawn.job_id, 1, "better place")
    cancelled = world.job(JobState.DISPATCHED)
    world.transact(jobs.request_cancel, cancelled.job_id)
    lost = world.job(JobState.RUNNING)
    world.transact(jobs.lose, lost.job_id, 1, 1, HOST_ERROR, again)
    released = world.job(JobState.RUNNING)
    world.transact(jobs.release, released.job_id, 1, owner=OWNER, reason="stopping")
    return {
        AttemptState.WITHDRAWN: withdrawn,
        AttemptState.CANCELLED: cancelled,
        AttemptState.LOST: lost,
        AttemptState.RELEASED: released,
        AttemptState.FAILED: world.job(JobState.FAILED),
        AttemptState.SUCCEEDED: world.job(JobState.SUCCEEDED),
        AttemptState.RUNNING: world.job(JobState.RUNNING),
        AttemptState.DISPATCHED: world.job(JobState.DISPATCHED),
    }


def test_a_job_begins_waiting_with_attempt_zero(world: World) -> None:
    """Nobody can insert a job that is already somewhere."""
    job = world.job()
    copied = "id, run_id, ordinal, label, kind, recipe, recipe_version, params, inputs, fresh, priority, attempt, state"
    rest = "max_attempts, failures, losses, avoid_devices, refused_hosts, cancel_requested, outputs, facts, created_at"
    for state, attempt in (("queued", 0), ("waiting", 1)):
        statement = (
            f"INSERT INTO jobs ({copied}, {rest}) SELECT 'x', run_id, 1, 'x', kind, recipe, recipe_version, params, "
            f"inputs, fresh, priority, {attempt}, '{state}', {rest} FROM jobs WHERE id = :job"
        )
        refused(world, "a job begins waiting", statement, job=job.job_id)


@pytest.mark.parametrize("step", [2, -1, 0])
def test_the_attempt_number_rises_by_one_at_dispatch(world: World, step: int) -> None:
    """The fence cannot jump, fall or stand still at dispatch."""
    job = world.job(JobState.DISPATCHED)
    world.transact(jobs.withdraw, job.job_id, 1, "again")
    statement = "UPDATE jobs SET state = 'dispatched', attempt = attempt + :step WHERE id = :job"
    refused(world, "rises by one at dispatch", statement, step=step, job=job.job_id)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED])
def test_the_attempt_number_changes_at_dispatch_only(world: World, state: JobState) -> None:
    """No other statement moves the fence."""
    job = world.job(state)
    for other in ("guard_jobs_running", "guard_jobs_succeeded"):
        _drop(world, other)
    refused(world, "rises by one", "UPDATE jobs SET attempt = attempt + 1 WHERE id = :job", job=job.job_id)


def test_a_job_has_one_active_attempt(world: World) -> None:
    """A second active attempt of a job is refused by an index even where the number would be right."""
    job = world.job(JobState.DISPATCHED)
    statement, values = insert_attempt(job, 2)
    refused(world, "an attempt begins dispatched, with the number of the job", statement, **values)
    _drop(world, "guard_attempts_born")
    refused(world, "uq_attempts_active_job|attempts.job_id", statement, **values)


def _drop(world: World, name: str) -> None:
    guard = next(guard for guard in GUARDS if guard.name == name)
    with world.database.write() as connection:
        for statement in guards_0001.drop(guard, world.database.dialect):
            connection.execute(text(statement))


def test_a_device_runs_one_attempt(world: World) -> None:
    """A second running attempt on a device is refused by an index."""
    world.job(JobState.RUNNING)
    second = world.job(JobState.DISPATCHED)
    statement = f"UPDATE attempts SET state = 'running', owner = 'x', lease_until = {NOW} WHERE job_id = :job"
    refused(world, "uq_attempts_running_device|attempts.device_id", statement, job=second.job_id)


@pytest.mark.parametrize("missing", ["owner", "lease_until"])
def test_a_running_attempt_has_an_owner_and_a_lease(world: World, missing: str) -> None:
    """Running without either is refused, whichever way it is tried."""
    job = world.job(JobState.DISPATCHED)
    given = {"owner": "owner = 'x'", "lease_until": f"lease_until = {NOW}"}
    given.pop(missing)
    statement = f"UPDATE attempts SET state = 'running', {next(iter(given.values()))} WHERE job_id = :job"
    refused(world, "running_leased", statement, job=job.job_id)


def test_an_attempt_that_does_not_run_has_no_lease(world: World) -> None:
    """A lease on a dispatched attempt is refused."""
    job = world.job(JobState.DISPATCHED)
    statement = f"UPDATE attempts SET lease_until = {NOW} WHERE job_id = :job"
    refused(world, "running_leased", statement, job=job.job_id)


def test_ended_means_finished_at(world: World) -> None:
    """Jobs, attempts and runs carry the time of their end exactly when they have ended."""
    queued = world.job(JobState.QUEUED)
    refused(world, "final_finished", "UPDATE jobs SET state = 'cancelled' WHERE id = :job", job=queued.job_id)
    refused(world, "final_finished", f"UPDATE jobs SET finished_at = {NOW} WHERE id = :job", job=queued.job_id)
    dispatched = world.job(JobState.DISPATCHED)
    statement = "UPDATE attempts SET state = 'withdrawn' WHERE job_id = :job"
    refused(world, "ck_attempts_finished", statement, job=dispatched.job_id)
    refused(world, "ck_runs_finished", "UPDATE runs SET state = 'failed' WHERE id = :run", run=queued.run_id)


def test_a_job_runs_and_succeeds_only_with_its_attempt(world: World) -> None:
    """A job cannot say `running` or `succeeded` while its attempt says otherwise."""
    dispatched = world.job(JobState.DISPATCHED)
    statement = "UPDATE jobs SET state = 'running' WHERE id = :job"
    refused(world, "a running job has a running attempt", statement, job=dispatched.job_id)
    running = world.job(JobState.RUNNING)
    statement = f"UPDATE jobs SET state = 'succeeded', finished_at = {NOW} WHERE id = :job"
    refused(world, "a job succeeds by an attempt of its own or by reuse", statement, job=running.job_id)


def test_a_failed_job_has_an_error_and_only_a_succeeded_one_is_reused(world: World) -> None:
    """An end without a reason is refused, and so is an open job that claims another's outputs."""
    job = world.job(JobState.QUEUED)
    statement = f"UPDATE jobs SET state = 'failed', finished_at = {NOW} WHERE id = :job"
    refused(world, "failed_has_error", statement, job=job.job_id)
    refused(world, "reused_succeeded", "UPDATE jobs SET reused_from = id WHERE id = :job", job=job.job_id)


@pytest.mark.parametrize(
    "change",
    ["owner = 'thief'", "owner = NULL", f"device_id = '{OTHER_CHIP}'", "number = 2", "job_id = 'another'"],
)
def test_an_attempt_keeps_its_job_number_device_and_owner(world: World, change: str) -> None:
    """Nothing that says who runs what where can be rewritten."""
    job = world.job(JobState.RUNNING)
    statement = f"UPDATE attempts SET {change} WHERE job_id = :job"
    refused(world, "an attempt keeps its job, number, device and owner", statement, job=job.job_id)


def test_an_attempt_without_a_dispatch_is_refused(world: World) -> None:
    """An attempt appears with the dispatch of its job, in the state dispatched, and on a known device."""
    queued = world.job(JobState.QUEUED)
    for number in (0, 1):
        statement, values = insert_attempt(queued, number)
        refused(world, "an attempt begins dispatched", statement, **values)
    dispatched = world.job(JobState.DISPATCHED)
    statement, values = insert_attempt(dispatched, 1, state="running")
    refused(world, "an attempt begins dispatched", statement, **values)


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.FAILED])
def test_a_result_without_a_succeeded_attempt_is_refused(world: World, state: JobState) -> None:
    """No number enters the history from an attempt that runs or failed, nor from one that never was."""
    job = world.job(state, JobKind.BENCHMARK)
    refused(world, "a result comes from a succeeded attempt", INSERT_RESULT, **result_values(job))
    refused(world, "a result comes from a succeeded attempt", INSERT_RESULT, **result_values(job, attempt=7))


def test_a_job_has_one_result(world: World) -> None:
    """A second result of a succeeded job is refused."""
    job = world.job(JobState.SUCCEEDED, JobKind.BENCHMARK, result=new_result())
    refused(world, "uq_results_job_id|results.job_id", INSERT_RESULT, **result_values(job))


#: How rows go away in one statement without a DELETE.
AT_ONCE = {
    "sqlite": (
        ("results", "REPLACE INTO results SELECT * FROM results"),
        ("metrics", "REPLACE INTO metrics SELECT result_id, name, 1e9, unit FROM metrics"),
        ("job_events", "REPLACE INTO job_events SELECT * FROM job_events"),
    ),
    "postgresql": (
        ("results", "TRUNCATE results CASCADE"),
        ("metrics", "TRUNCATE metrics"),
        ("job_events", "TRUNCATE job_events"),
    ),
}


def test_the_history_is_never_changed(world: World) -> None:
    """Results, metrics and what happened to jobs cannot be updated, deleted, replaced or emptied."""
    world.job(JobState.SUCCEEDED, JobKind.BENCHMARK, result=new_result())
    for table, statement in (
        ("results", "UPDATE results SET batch_size = 2"),
        ("results", "DELETE FROM results"),
        ("metrics", "UPDATE metrics SET value = 1e9"),
        ("metrics", "DELETE FROM metrics"),
        ("job_events", "UPDATE job_events SET to_state = 'succeeded'"),
        ("job_events", "DELETE FROM job_events"),
        *AT_ONCE[world.database.dialect],
    ):
        refused(world, f"{table} are never changed", statement)


def test_an_attempt_is_never_deleted(world: World) -> None:
    """Nobody makes room for a second attempt of a job, or on a device, by taking the first away."""
    world.job(JobState.RUNNING)
    refused(world, "attempts are never deleted", "DELETE FROM attempts")
    if world.database.dialect == "sqlite":
        second = world.job(JobState.DISPATCHED)
        take = f"UPDATE OR REPLACE attempts SET state = 'running', owner = 'x', lease_until = {NOW} WHERE job_id = :job"
        refused(world, "attempts are never deleted", take, job=second.job_id)
    else:
        refused(world, "attempts are never deleted", "TRUNCATE attempts CASCADE")


def test_no_program_changes_the_table_of_moves(world: World) -> None:
    """A move that is not legal is not made legal first."""
    for statement in (
        "INSERT INTO job_moves (from_state, to_state) VALUES ('succeeded', 'waiting')",
        "UPDATE job_moves SET to_state = 'waiting' WHERE to_state = 'held'",
        "DELETE FROM job_moves",
        *(("TRUNCATE job_moves",) if world.database.dialect == "postgresql" else ()),
    ):
        refused(world, "job_moves are changed by migrations only", statement)


def test_a_companion_succeeds_only_as_its_leading_job(world: World) -> None:
    """Neither by an attempt of its own, nor before the other, nor does a job that runs alone succeed from the queue."""
    succeed = f"UPDATE jobs SET state = 'succeeded', finished_at = {NOW}, reused_from = :other WHERE id = :job"
    alone, equal = world.job(JobState.QUEUED), world.job(JobState.SUCCEEDED)
    refused(world, "a queued job succeeds only as", succeed, job=alone.job_id, other=equal.job_id)
    lead = world.new_job(JobKind.BENCHMARK)
    lead = replace(lead, lead_id=lead.job_id)
    companion = world.new_job(JobKind.BENCHMARK, lead_id=lead.job_id)
    run_id = world.plan(lead, companion)
    queued = world.bring(Placed(job_id=companion.job_id, run_id=run_id), JobState.QUEUED)
    refused(world, "a companion succeeds after", succeed, job=queued.job_id, other=lead.job_id)
    running = world.claim(world.dispatch(queued))
    with pytest.raises(DBAPIError, match="a companion succeeds after"):
        world.transact(jobs.succeed, running.job_id, running.attempt, owner=OWNER, completion=completion())


def test_a_run_id_is_taken_once(world: World) -> None:
    """The run id is the submission key."""
    run_id = world.run()
    columns = "name, recipe, spec, state, submitter, cancel_requested, submitted_at, created_at"
    statement = f"INSERT INTO runs (id, {columns}) SELECT id, {columns} FROM runs WHERE id = :run"
    refused(world, "pk_runs|runs.id", statement, run=run_id)


@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        ("jobs", "kind", list(JobKind)),
        ("runs", "state", list(RunState)),
        ("devices", "state", list(DeviceState)),
        ("results", "quality", list(Quality)),
    ],
)
def test_unknown_words_are_refused(world: World, table: str, column: str, words: list[str]) -> None:
    """A column of words takes its own words only."""
    world.job(JobState.SUCCEEDED, JobKind.BENCHMARK, result=new_result())
    if table == "results":
        _drop(world, "guard_results_updated")
    assert "nonsense" not in words
    refused(world, f"ck_{table}_", f"UPDATE {table} SET {column} = 'nonsense'")


def test_dangling_references_are_refused(world: World) -> None:
    """Foreign keys hold on both databases."""
    job = world.job(JobState.QUEUED)
    statement = "UPDATE jobs SET device_id = 'nobody' WHERE id = :job"
    refused(world, "(?i)foreign key", statement, job=job.job_id)
    refused(world, "(?i)foreign key", "DELETE FROM hosts WHERE id = :host", host=HOST)
    statement = "INSERT INTO metrics (result_id, name, value, unit) VALUES (:id, 'top1', 1.0, '%')"
    refused(world, "(?i)foreign key", statement, id="nobody")


def test_sizes_are_not_negative(world: World) -> None:
    """An artifact of less than no bytes is refused."""
    statement = f"INSERT INTO artifacts (digest, size_bytes, created_at) VALUES (:digest, -1, {NOW})"
    refused(world, "ck_artifacts_size", statement, digest=DIGEST)


def test_there_is_one_cluster_and_one_leader(world: World) -> None:
    """The tables of one row take no second one."""
    statement = f"INSERT INTO cluster (id, cluster_id, epoch, created_at) VALUES (2, 'x', 1, {NOW})"
    refused(world, "ck_cluster_one_row", statement)
    statement = f"INSERT INTO leader (id, owner, expires_at) VALUES (2, 'x', {NOW})"
    refused(world, "ck_leader_one_row", statement)


def test_every_guard_of_the_migration_is_in_place(world: World) -> None:
    """No guard was forgotten when the schema was made."""
    query = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
    }[world.database.dialect]
    with world.database.read() as connection:
        names = set(connection.execute(text(query)).scalars())
    wanted = {guard.name for guard in GUARDS if guards_0001.create(guard, world.database.dialect)}
    assert wanted <= names
