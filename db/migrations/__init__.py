"""The history of the schema, run by alembic; see `db.schema`."""
