"""The first schema: every table, and the guards of the state machine."""

import sqlalchemy as sa
from alembic import op

from db.migrations import guards_0001 as guards
from db.types import JsonType, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_WORDS = {
    "jobstate": ("waiting", "queued", "dispatched", "running", "succeeded", "failed", "cancelled", "skipped", "held"),
    "runstate": ("submitted", "active", "succeeded", "failed", "cancelled"),
    "jobkind": ("export", "convert", "infer", "evaluate", "benchmark"),
    "attemptstate": (
        "dispatched",
        "running",
        "succeeded",
        "failed",
        "cancelled",
        "lost",
        "released",
        "withdrawn",
    ),
    "devicekind": ("npu", "host"),
    "devicestate": ("online", "busy", "draining", "quarantined", "lost"),
    "quality": ("clean", "unstable", "contaminated"),
}
_TABLES = (
    "metrics",
    "results",
    "log_chunks",
    "attempts",
    "job_inputs",
    "jobs",
    "job_moves",
    "job_events",
    "runs",
    "artifacts",
    "datasets",
    "devices",
    "hosts",
    "leader",
    "cluster",
)


def _word(name: str) -> sa.Enum:
    return sa.Enum(*_WORDS[name], name=name, native_enum=False, create_constraint=True, length=16)


def _run(statements: list[str]) -> None:
    for statement in statements:
        op.get_bind().exec_driver_sql(
            statement.replace("%", "%%") if op.get_bind().dialect.paramstyle in {"format", "pyformat"} else statement
        )


def upgrade() -> None:
    _create_tables()
    moves = sa.table("job_moves", sa.column("from_state"), sa.column("to_state"))
    op.bulk_insert(moves, [{"from_state": old, "to_state": new} for old, new in guards.JOB_MOVES])
    dialect = op.get_bind().dialect.name
    for guard in guards.GUARDS:
        _run(guards.create(guard, dialect))
    _run(guards.create_event_log(dialect))


def downgrade() -> None:
    dialect = op.get_bind().dialect.name
    _run(guards.drop_event_log(dialect))
    for guard in reversed(guards.GUARDS):
        _run(guards.drop(guard, dialect))
    for table in _TABLES:
        op.drop_table(table)


def _create_tables() -> None:  # one statement per table and index, longer than a screen by nature
    op.create_table(
        "artifacts",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_artifacts_size")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_artifacts")),
    )
    op.create_table(
        "cluster",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cluster_id", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_cluster_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cluster")),
    )
    op.create_table(
        "datasets",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("added_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_datasets")),
    )
    op.create_table(
        "hosts",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("heartbeat_at", UtcDateTime(), nullable=False),
        sa.Column("facts", JsonType, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hosts")),
    )
    op.create_table(
        "job_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("from_state", sa.String(length=16), nullable=True),
        sa.Column("to_state", sa.String(length=16), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=True),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_events")),
    )
    op.create_index(op.f("ix_job_events_job_id_id"), "job_events", ["job_id", "id"], unique=False)

    op.create_table(
        "job_moves",
        sa.Column("from_state", sa.String(length=16), nullable=False),
        sa.Column("to_state", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("from_state", "to_state", name=op.f("pk_job_moves")),
    )
    op.create_table(
        "leader",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_leader_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leader")),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("recipe", sa.String(length=100), nullable=False),
        sa.Column("spec", JsonType, nullable=False),
        sa.Column("state", _word("runstate"), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("submitter", sa.String(length=200), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("submitted_at", UtcDateTime(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint("(finished_at IS NULL) = (state IN ('submitted', 'active'))", name=op.f("ck_runs_finished")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index(op.f("ix_runs_created_at"), "runs", ["created_at"], unique=False)
    op.create_index(
        "ix_runs_open",
        "runs",
        ["created_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('submitted', 'active')"),
        postgresql_where=sa.text("state IN ('submitted', 'active')"),
    )

    op.create_table(
        "devices",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("host_id", sa.String(length=64), nullable=False),
        sa.Column("kind", _word("devicekind"), nullable=False),
        sa.Column("identity", sa.String(length=200), nullable=False),
        sa.Column("npu_id", sa.Integer(), nullable=True),
        sa.Column("chip_id", sa.Integer(), nullable=True),
        sa.Column("logic_id", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("soc_version", sa.String(length=40), nullable=True),
        sa.Column("toolchain", sa.String(length=100), server_default="", nullable=False),
        sa.Column("emulated", sa.Boolean(), nullable=False),
        sa.Column("health", sa.String(length=16), nullable=False),
        sa.Column("state", _word("devicestate"), nullable=False),
        sa.Column("state_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("state_at", UtcDateTime(), nullable=False),
        sa.Column("memory_total_mib", sa.Integer(), nullable=True),
        sa.Column("memory_baseline_mib", sa.Integer(), nullable=True),
        sa.Column("loaded", JsonType, nullable=False),
        sa.Column("restart_asked_at", UtcDateTime(), nullable=True),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("(kind = 'npu') = (logic_id IS NOT NULL)", name=op.f("ck_devices_npu_has_logic_id")),
        sa.ForeignKeyConstraint(["host_id"], ["hosts.id"], name=op.f("fk_devices_host_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_devices")),
    )
    op.create_index(op.f("ix_devices_host_id"), "devices", ["host_id"], unique=False)

    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("label", sa.String(length=200), nullable=False),
        sa.Column("kind", _word("jobkind"), nullable=False),
        sa.Column("recipe", sa.String(length=100), nullable=False),
        sa.Column("recipe_version", sa.Integer(), nullable=False),
        sa.Column("params", JsonType, nullable=False),
        sa.Column("inputs", JsonType, nullable=False),
        sa.Column("soc_version", sa.String(length=40), nullable=True),
        sa.Column("toolchain", sa.String(length=100), nullable=True),
        sa.Column("content_key", sa.String(length=64), nullable=True),
        sa.Column("fresh", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", _word("jobstate"), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("not_before", UtcDateTime(), nullable=True),
        sa.Column("avoid_devices", JsonType, nullable=False),
        sa.Column("refused_hosts", JsonType, nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("outputs", JsonType, nullable=False),
        sa.Column("facts", JsonType, nullable=False),
        sa.Column("reused_from", sa.String(length=64), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_blame", sa.String(length=16), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("queued_at", UtcDateTime(), nullable=True),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled', 'skipped', 'held'))",
            name=op.f("ck_jobs_final_finished"),
        ),
        sa.CheckConstraint("reused_from IS NULL OR state = 'succeeded'", name=op.f("ck_jobs_reused_succeeded")),
        sa.CheckConstraint(
            "state NOT IN ('failed', 'held') OR error_code IS NOT NULL", name=op.f("ck_jobs_failed_has_error")
        ),
        sa.CheckConstraint("attempt >= 0", name=op.f("ck_jobs_attempt")),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_jobs_device_id")),
        sa.ForeignKeyConstraint(["reused_from"], ["jobs.id"], name=op.f("fk_jobs_reused_from")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_jobs_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("run_id", "label", name=op.f("uq_jobs_run_id_label")),
    )
    op.create_index(
        "ix_jobs_content_key",
        "jobs",
        ["content_key", "state"],
        unique=False,
        sqlite_where=sa.text("content_key IS NOT NULL"),
        postgresql_where=sa.text("content_key IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_done",
        "jobs",
        ["finished_at"],
        unique=False,
        sqlite_where=sa.text("state = 'succeeded' AND reused_from IS NULL"),
        postgresql_where=sa.text("state = 'succeeded' AND reused_from IS NULL"),
    )
    op.create_index(
        "ix_jobs_open",
        "jobs",
        ["state", "priority", "created_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('waiting', 'queued', 'dispatched', 'running')"),
        postgresql_where=sa.text("state IN ('waiting', 'queued', 'dispatched', 'running')"),
    )
    op.create_index(op.f("ix_jobs_run_id_ordinal"), "jobs", ["run_id", "ordinal"], unique=False)

    op.create_table(
        "attempts",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("state", _word("attemptstate"), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("beats", sa.Integer(), nullable=False),
        sa.Column("publishes", sa.Integer(), nullable=False),
        sa.Column("published_at", UtcDateTime(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.Column("progress", JsonType, nullable=True),
        sa.Column("log_digest", sa.String(length=64), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_blame", sa.String(length=16), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(finished_at IS NULL) = (state IN ('dispatched', 'running'))", name=op.f("ck_attempts_finished")
        ),
        sa.CheckConstraint(
            "(state = 'running') = (lease_until IS NOT NULL) AND (state <> 'running' OR owner IS NOT NULL)",
            name=op.f("ck_attempts_running_leased"),
        ),
        sa.CheckConstraint("number >= 1", name=op.f("ck_attempts_number")),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_attempts_device_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_attempts_job_id")),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_attempts")),
    )
    op.create_index(
        "ix_attempts_active",
        "attempts",
        ["device_id", "state"],
        unique=False,
        sqlite_where=sa.text("state IN ('dispatched', 'running')"),
        postgresql_where=sa.text("state IN ('dispatched', 'running')"),
    )
    op.create_index(op.f("ix_attempts_device_id_created_at"), "attempts", ["device_id", "created_at"], unique=False)
    op.create_index(
        "uq_attempts_active_job",
        "attempts",
        ["job_id"],
        unique=True,
        sqlite_where=sa.text("state IN ('dispatched', 'running')"),
        postgresql_where=sa.text("state IN ('dispatched', 'running')"),
    )
    op.create_index(
        "uq_attempts_running_device",
        "attempts",
        ["device_id"],
        unique=True,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )

    op.create_table(
        "job_inputs",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("parent_id", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_inputs_job_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["jobs.id"], name=op.f("fk_job_inputs_parent_id")),
        sa.PrimaryKeyConstraint("job_id", "parent_id", name=op.f("pk_job_inputs")),
    )
    op.create_index(op.f("ix_job_inputs_parent_id"), "job_inputs", ["parent_id"], unique=False)

    op.create_table(
        "log_chunks",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id", "attempt"], ["attempts.job_id", "attempts.number"], name=op.f("fk_log_chunks_job_id_attempt")
        ),
        sa.PrimaryKeyConstraint("job_id", "attempt", "position", name=op.f("pk_log_chunks")),
    )
    op.create_table(
        "results",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("recipe", sa.String(length=100), nullable=False),
        sa.Column("recipe_version", sa.Integer(), nullable=False),
        sa.Column("dataset", sa.String(length=100), nullable=True),
        sa.Column("dataset_digest", sa.String(length=64), nullable=True),
        sa.Column("samples", sa.Integer(), nullable=True),
        sa.Column("soc_version", sa.String(length=40), nullable=True),
        sa.Column("device_id", sa.String(length=64), nullable=True),
        sa.Column("emulated", sa.Boolean(), nullable=False),
        sa.Column("batch_size", sa.Integer(), nullable=False),
        sa.Column("precision", sa.String(length=32), nullable=False),
        sa.Column("quality", _word("quality"), nullable=False),
        sa.Column("om_digest", sa.String(length=64), nullable=True),
        sa.Column("toolchain", sa.String(length=100), server_default="", nullable=False),
        sa.Column("facts", JsonType, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("kind IN ('accuracy', 'performance')", name=op.f("ck_results_kind")),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_results_device_id")),
        sa.ForeignKeyConstraint(
            ["job_id", "attempt"], ["attempts.job_id", "attempts.number"], name=op.f("fk_results_job_id_attempt")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_results_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_results")),
        sa.UniqueConstraint("job_id", name=op.f("uq_results_job_id")),
    )
    op.create_index(op.f("ix_results_created_at"), "results", ["created_at"], unique=False)
    op.create_index(
        op.f("ix_results_recipe_soc_version_batch_size_created_at"),
        "results",
        ["recipe", "soc_version", "batch_size", "created_at"],
        unique=False,
    )
    op.create_index(op.f("ix_results_run_id"), "results", ["run_id"], unique=False)

    op.create_table(
        "metrics",
        sa.Column("result_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=False),
        sa.Column("unit", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["result_id"], ["results.id"], name=op.f("fk_metrics_result_id")),
        sa.PrimaryKeyConstraint("result_id", "name", name=op.f("pk_metrics")),
    )
