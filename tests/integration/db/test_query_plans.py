"""What the scheduler asks at every tick takes no longer with a history of years: SQLite goes through indexes only."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from sqlalchemy import event

from db import devices, jobs, open_work, runs, scheduling_queries
from npuq.states import JobKind
from tests.services.world import World

QUEUED: Final[dict[str, Any]] = {
    "kinds": [JobKind.INFER],
    "soc_versions": ["Ascend310P3"],
    "toolchains": ["CANN 8.0"],
    "device_ids": ["h1.npu0.0"],
    "per_run": 4,
    "limit": 500,
}


def plans_of(world: World, query: Callable[..., Any], **named: Any) -> list[str]:
    """Return what SQLite says it does for each statement of a query."""
    asked: list[tuple[str, Any]] = []
    event.listen(
        world.database.engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, parameters, _context, _many: asked.append((statement, parameters)),
    )
    world.read(query, **named)
    statements = [(statement, parameters) for statement, parameters in asked if statement.startswith("SELECT")]
    assert statements
    with world.database.read() as connection:
        return [
            row[3]
            for statement, parameters in statements
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        (open_work.look, {}),
        (scheduling_queries.active, {}),
        (scheduling_queries.ready, {}),
        (scheduling_queries.any_doomed, {}),
        (scheduling_queries.left_behind, {}),
        (scheduling_queries.stranded, {"toolchains": ["CANN 8.0"]}),
        (scheduling_queries.queued, QUEUED),
        (scheduling_queries.queued, QUEUED | {"lead": True}),
        (scheduling_queries.ready_together, {"lead_ids": ["x"]}),
        (scheduling_queries.finished_since, {"since": None, "limit": 200}),
        (scheduling_queries.equal_succeeded, {"content_key": "x"}),
        (scheduling_queries.equal_active, {"content_key": "x", "pinned_device": None}),
        (scheduling_queries.models, {"job_ids": ["x"]}),
        (devices.find, {"suspect_seconds": 30.0}),
        (runs.submitted, {}),
        (runs.settle, {}),
        (jobs.skip_doomed, {}),
    ],
)
def test_no_statement_of_a_tick_goes_through_the_history(
    sqlite_world: World, query: Callable[..., Any], named: dict[str, Any]
) -> None:
    """Jobs, attempts and runs are found by what they are, or by an index of those that are not final."""
    plans = plans_of(sqlite_world, query, **named)
    whole = [
        step
        for step in plans
        for table in ("jobs", "attempts", "runs", "parent", "other", "job_inputs")
        if step.startswith(f"SCAN {table}") and not any(index in step for index in ("_open", "_active", "ix_jobs_done"))
    ]
    assert whole == []


def test_a_device_is_busy_by_the_index_of_what_runs(sqlite_world: World) -> None:
    """Not by all the attempts that it ever had."""
    (step,) = (step for step in plans_of(sqlite_world, devices.find, suspect_seconds=30.0) if "attempts" in step)
    assert "uq_attempts_running_device" in step
