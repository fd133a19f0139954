"""Jobs may be pinned to a device, or run on all chips of a card at once; results say whether they are a card's.

Expands only: programs of the release before write none of the columns, and are not disturbed by them. A scheduler of
that release looks neither at a pin nor at a card, so stop it before runs with either are submitted.

Some guards of the first schema came later than databases that have it: whichever is missing is put in place here.
"""

from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

from db.migrations import guards_0001, guards_0004

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MOVE = ("queued", "succeeded")
_LEADS = "lead_id IS NOT NULL"


def _run(statements: Iterable[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)


def upgrade() -> None:
    op.add_column("jobs", sa.Column("pinned_device", sa.String(length=64), nullable=True))
    if op.get_bind().dialect.name == "sqlite":  # takes a key of an added column only within the column
        op.execute("ALTER TABLE jobs ADD COLUMN lead_id VARCHAR(64) CONSTRAINT fk_jobs_lead_id REFERENCES jobs (id)")
    else:
        op.add_column("jobs", sa.Column("lead_id", sa.String(length=64), nullable=True))
        op.create_foreign_key(op.f("fk_jobs_lead_id"), "jobs", "jobs", ["lead_id"], ["id"])
    op.create_index(
        "ix_jobs_lead_id",
        "jobs",
        ["lead_id"],
        sqlite_where=sa.text(_LEADS),
        postgresql_where=sa.text(_LEADS),
    )
    op.add_column("results", sa.Column("scope", sa.String(length=8), server_default="chip", nullable=False))
    moves = sa.table("job_moves", sa.column("from_state"), sa.column("to_state"))
    op.bulk_insert(moves, [{"from_state": MOVE[0], "to_state": MOVE[1]}])
    dialect = op.get_bind().dialect.name
    for guard in (*guards_0001.GUARDS, *guards_0004.GUARDS):
        _run(guards_0001.drop(guard, dialect))
        _run(guards_0001.create(guard, dialect))


def downgrade() -> None:
    for guard in guards_0004.GUARDS:
        _run(guards_0001.drop(guard, op.get_bind().dialect.name))
    op.execute(f"DELETE FROM job_moves WHERE from_state = '{MOVE[0]}' AND to_state = '{MOVE[1]}'")
    op.drop_column("results", "scope")
    op.drop_index("ix_jobs_lead_id", "jobs")
    op.drop_column("jobs", "lead_id")
    op.drop_column("jobs", "pinned_device")
