"""What revision 0004 refuses besides what the first schema does.

`job_moves` is written by migrations alone: one that changes it takes its guards away first, and puts them back.
"""

from typing import Final

from db.migrations.guards_0001 import Guard

GUARDS: Final = (
    Guard(
        name="guard_jobs_followed",
        table="jobs",
        event="UPDATE",
        violated="OLD.state = 'queued' AND NEW.state = 'succeeded' AND (NEW.lead_id IS NULL"
        " OR NEW.reused_from IS NULL OR NEW.reused_from <> NEW.lead_id)",
        message="a queued job succeeds only as the one that it accompanied",
    ),
    Guard(
        name="guard_jobs_companion",
        table="jobs",
        event="UPDATE",
        violated="OLD.state <> NEW.state AND NEW.state = 'succeeded' AND NEW.lead_id <> NEW.id AND NOT EXISTS"
        " (SELECT 1 FROM jobs AS other WHERE other.id = NEW.lead_id AND other.state = 'succeeded')",
        message="a companion succeeds after the job that leads it",
    ),
    Guard(
        name="guard_attempts_truncated",
        table="attempts",
        event="TRUNCATE",
        violated="1 = 1",
        message="attempts are never deleted",
    ),
    *(
        Guard(
            name=f"guard_job_events_{event.lower().rstrip('e')}ed",
            table="job_events",
            event=event,
            violated="1 = 1",
            message="job_events are never changed",
        )
        for event in ("UPDATE", "DELETE", "TRUNCATE")
    ),
    *(
        Guard(
            name=f"guard_job_moves_{event.lower().rstrip('e')}ed",
            table="job_moves",
            event=event,
            violated="1 = 1",
            message="job_moves are changed by migrations only",
        )
        for event in ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
    ),
)
