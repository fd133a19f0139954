"""Why devices are in their states, with the time, and the number by which containers are given a chip.

Expands only: programs of the release before write neither column nor the table, and are not disturbed by them.
"""

import sqlalchemy as sa
from alembic import op

from db.types import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("devices", sa.Column("phy_id", sa.Integer(), nullable=True))
    op.add_column("devices", sa.Column("state_cause", sa.String(length=16), server_default="", nullable=False))
    op.create_table(
        "device_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_device_events_device_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_events")),
    )
    op.create_index(op.f("ix_device_events_device_id_id"), "device_events", ["device_id", "id"], unique=False)


def downgrade() -> None:
    op.drop_table("device_events")
    op.drop_column("devices", "state_cause")
    op.drop_column("devices", "phy_id")
