"""What the first schema refuses beyond types, keys and checks, as triggers for SQLite and PostgreSQL.

A guard is one condition over OLD and NEW that must never be true, in SQL that both databases understand. This file
belongs to revision 0001 and never changes once that is released; later revisions bring guards of their own.
"""

from dataclasses import dataclass
from typing import Final, Literal

JOB_MOVES: Final = (
    ("waiting", "queued"),
    ("waiting", "succeeded"),
    ("waiting", "skipped"),
    ("waiting", "failed"),
    ("waiting", "cancelled"),
    ("queued", "dispatched"),
    ("queued", "failed"),
    ("queued", "cancelled"),
    ("dispatched", "running"),
    ("dispatched", "queued"),
    ("dispatched", "cancelled"),
    ("running", "succeeded"),
    ("running", "queued"),
    ("running", "failed"),
    ("running", "cancelled"),
    ("running", "held"),
    ("failed", "waiting"),
    ("cancelled", "waiting"),
    ("skipped", "waiting"),
    ("held", "waiting"),
)


@dataclass(frozen=True, kw_only=True)
class Guard:
    """A trigger that refuses a statement when `violated` is true."""

    name: str
    table: str
    event: Literal["INSERT", "UPDATE", "DELETE", "TRUNCATE"]
    violated: str
    message: str


GUARDS: Final = (
    Guard(
        name="guard_jobs_born",
        table="jobs",
        event="INSERT",
        violated="NEW.state <> 'waiting' OR NEW.attempt <> 0",
        message="a job begins waiting, with attempt 0",
    ),
    Guard(
        name="guard_jobs_move",
        table="jobs",
        event="UPDATE",
        violated="OLD.state <> NEW.state AND NOT EXISTS (SELECT 1 FROM job_moves AS move"
        " WHERE move.from_state = OLD.state AND move.to_state = NEW.state)",
        message="illegal move of a job",
    ),
    Guard(
        name="guard_jobs_fence",
        table="jobs",
        event="UPDATE",
        violated="(OLD.state = 'queued' AND NEW.state = 'dispatched') <> (NEW.attempt <> OLD.attempt)"
        " OR NEW.attempt NOT IN (OLD.attempt, OLD.attempt + 1)",
        message="the attempt number rises by one at dispatch, and never else",
    ),
    Guard(
        name="guard_jobs_running",
        table="jobs",
        event="UPDATE",
        violated="NEW.state = 'running' AND NOT EXISTS (SELECT 1 FROM attempts AS try"
        " WHERE try.job_id = NEW.id AND try.number = NEW.attempt AND try.state = 'running')",
        message="a running job has a running attempt",
    ),
    Guard(
        name="guard_jobs_succeeded",
        table="jobs",
        event="UPDATE",
        violated="NEW.state = 'succeeded' AND NEW.reused_from IS NULL AND NOT EXISTS (SELECT 1 FROM attempts AS try"
        " WHERE try.job_id = NEW.id AND try.number = NEW.attempt AND try.state = 'succeeded')",
        message="a job succeeds by an attempt of its own or by reuse",
    ),
    Guard(
        name="guard_attempts_born",
        table="attempts",
        event="INSERT",
        violated="NEW.state <> 'dispatched' OR NOT EXISTS (SELECT 1 FROM jobs AS job"
        " WHERE job.id = NEW.job_id AND job.attempt = NEW.number AND job.state = 'dispatched')",
        message="an attempt begins dispatched, with the number of the job",
    ),
    Guard(
        name="guard_attempts_move",
        table="attempts",
        event="UPDATE",
        violated="OLD.state <> NEW.state AND NOT ("
        "(OLD.state = 'dispatched' AND NEW.state IN ('running', 'withdrawn', 'cancelled')) OR "
        "(OLD.state = 'running' AND NEW.state IN ('succeeded', 'failed', 'cancelled', 'lost', 'released')))",
        message="illegal move of an attempt",
    ),
    Guard(
        name="guard_attempts_identity",
        table="attempts",
        event="UPDATE",
        violated="NEW.job_id <> OLD.job_id OR NEW.number <> OLD.number OR NEW.device_id <> OLD.device_id"
        " OR (OLD.owner IS NOT NULL AND (NEW.owner IS NULL OR NEW.owner <> OLD.owner))",
        message="an attempt keeps its job, number, device and owner",
    ),
    Guard(
        name="guard_attempts_deleted",
        table="attempts",
        event="DELETE",
        violated="1 = 1",
        message="attempts are never deleted",
    ),
    Guard(
        name="guard_results_born",
        table="results",
        event="INSERT",
        violated="NOT EXISTS (SELECT 1 FROM attempts AS try WHERE try.job_id = NEW.job_id"
        " AND try.number = NEW.attempt AND try.state = 'succeeded')",
        message="a result comes from a succeeded attempt",
    ),
    *(
        Guard(
            name=f"guard_{table}_{event.lower().rstrip('e')}ed",
            table=table,
            event=event,
            violated="1 = 1",
            message=f"{table} are never changed",
        )
        for table in ("results", "metrics")
        for event in ("UPDATE", "DELETE", "TRUNCATE")
    ),
)


def create(guard: Guard, dialect: str) -> list[str]:
    """Return the statements that put a guard in place; none where the database has no such event."""
    if dialect == "sqlite":
        if guard.event == "TRUNCATE":
            return []
        return [
            (
                f"CREATE TRIGGER {guard.name} BEFORE {guard.event} ON {guard.table} WHEN {guard.violated} "
                f"BEGIN SELECT RAISE(ABORT, '{guard.message}'); END"
            )
        ]
    passed_on = {"DELETE": "OLD", "TRUNCATE": "NULL"}.get(guard.event, "NEW")
    each = "STATEMENT" if guard.event == "TRUNCATE" else "ROW"
    return [
        (
            f"CREATE FUNCTION {guard.name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {guard.violated} THEN "
            f"RAISE EXCEPTION '{guard.message}' USING ERRCODE = 'check_violation'; END IF; RETURN {passed_on}; END $$"
        ),
        (
            f"CREATE TRIGGER {guard.name} BEFORE {guard.event} ON {guard.table} "
            f"FOR EACH {each} EXECUTE FUNCTION {guard.name}()"
        ),
    ]


def drop(guard: Guard, dialect: str) -> list[str]:
    """Return the statements that take a guard away, where it is."""
    if dialect == "sqlite":
        return [] if guard.event == "TRUNCATE" else [f"DROP TRIGGER IF EXISTS {guard.name}"]
    return [f"DROP TRIGGER IF EXISTS {guard.name} ON {guard.table}", f"DROP FUNCTION IF EXISTS {guard.name}()"]


_EVENT_COLUMNS: Final = "job_id, attempt, from_state, to_state, device_id, at"
_SQLITE_NOW: Final = "strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'"


def create_event_log(dialect: str) -> list[str]:
    """Return the statements that write every move of a job to `job_events`."""
    if dialect == "sqlite":
        return [
            (
                "CREATE TRIGGER log_jobs_born AFTER INSERT ON jobs BEGIN "
                f"INSERT INTO job_events ({_EVENT_COLUMNS}) "
                f"VALUES (NEW.id, NEW.attempt, NULL, NEW.state, NEW.device_id, {_SQLITE_NOW}); END"
            ),
            (
                "CREATE TRIGGER log_jobs_move AFTER UPDATE ON jobs WHEN OLD.state <> NEW.state BEGIN "
                f"INSERT INTO job_events ({_EVENT_COLUMNS}) "
                f"VALUES (NEW.id, NEW.attempt, OLD.state, NEW.state, NEW.device_id, {_SQLITE_NOW}); END"
            ),
        ]
    return [
        (
            "CREATE FUNCTION log_jobs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF TG_OP = 'INSERT' THEN INSERT INTO job_events ({_EVENT_COLUMNS}) "
            "VALUES (NEW.id, NEW.attempt, NULL, NEW.state, NEW.device_id, clock_timestamp()); "
            f"ELSIF OLD.state <> NEW.state THEN INSERT INTO job_events ({_EVENT_COLUMNS}) "
            "VALUES (NEW.id, NEW.attempt, OLD.state, NEW.state, NEW.device_id, clock_timestamp()); "
            "END IF; RETURN NULL; END $$"
        ),
        "CREATE TRIGGER log_jobs AFTER INSERT OR UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION log_jobs()",
    ]


def drop_event_log(dialect: str) -> list[str]:
    """Return the statements that end the event log."""
    if dialect == "sqlite":
        return ["DROP TRIGGER log_jobs_move", "DROP TRIGGER log_jobs_born"]
    return ["DROP TRIGGER log_jobs ON jobs", "DROP FUNCTION log_jobs()"]
