"""Results say which part of a dataset they are of; datasets may be kept in the store, or lie elsewhere on some hosts.

Expands only: programs of the release before write neither the columns nor the table, and are not disturbed by them.
"""

import sqlalchemy as sa
from alembic import op

from db.types import JsonType

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("results", sa.Column("dataset_samples", sa.Integer(), nullable=True))
    op.add_column("results", sa.Column("images_digest", sa.String(length=64), nullable=True))
    op.add_column("datasets", sa.Column("size_bytes", sa.BigInteger(), nullable=True))
    op.add_column("datasets", sa.Column("in_store", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("datasets", sa.Column("notes", JsonType, server_default="[]", nullable=False))
    op.create_table(
        "dataset_folders",
        sa.Column("dataset", sa.String(length=100), nullable=False),
        sa.Column("host", sa.String(length=64), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset"], ["datasets.name"], name=op.f("fk_dataset_folders_dataset"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("dataset", "host", name=op.f("pk_dataset_folders")),
    )


def downgrade() -> None:
    op.drop_table("dataset_folders")
    for table, columns in {
        "datasets": ("notes", "in_store", "size_bytes"),
        "results": ("images_digest", "dataset_samples"),
    }.items():
        for column in columns:
            op.drop_column(table, column)
