"""The history: results and their metrics, written once, read for years."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select

from db.records import NewResult, ResultRecord
from db.tables import Job, Metric, Result
from db.types import db_now
from npuq.specs import derived_id

MAX_ROWS = 10_001  # of which the last one says that there are more


def insert_result(connection: Connection, job: Row[Any], result: NewResult) -> None:
    """Insert the result of a job whose attempt has just succeeded; the database refuses any other."""
    result_id = derived_id("result", job.id)
    columns = {name: value for name, value in vars(result).items() if name != "metrics"}
    connection.execute(
        insert(Result).values(
            id=result_id,
            run_id=job.run_id,
            job_id=job.id,
            attempt=job.attempt,
            recipe=job.recipe,
            recipe_version=job.recipe_version,
            created_at=db_now(),
            **{**columns, "facts": dict(result.facts)},
        )
    )
    if result.metrics:
        connection.execute(
            insert(Metric),
            [
                {"result_id": result_id, "name": name, "value": value, "unit": unit}
                for name, (value, unit) in result.metrics.items()
            ],
        )


def find(
    connection: Connection,
    *,
    recipe: str | None = None,
    soc_version: str | None = None,
    batch_size: int | None = None,
    kind: str | None = None,
    run_id: str | None = None,
    since: datetime | None = None,
    limit: int = MAX_ROWS,
) -> list[ResultRecord]:
    """Return results, newest first. With `run_id` also those that the run reused from earlier ones."""
    query = select(Result.__table__).order_by(Result.created_at.desc(), Result.id).limit(min(limit, MAX_ROWS))
    conditions: dict[Any, object] = {
        Result.recipe: recipe,
        Result.soc_version: soc_version,
        Result.batch_size: batch_size,
        Result.kind: kind,
    }
    for column, wanted in conditions.items():
        if wanted is not None:
            query = query.where(column == wanted)
    if since is not None:
        query = query.where(Result.created_at >= since)
    if run_id is not None:
        query = query.where(Result.job_id.in_(_jobs_of_run(run_id)))
    return _with_metrics(connection, connection.execute(query).all())


def _jobs_of_run(run_id: str) -> Select[Any]:
    return select(func.coalesce(Job.reused_from, Job.id)).where(Job.run_id == run_id)


def by_prefix(connection: Connection, prefix: str, limit: int = 3) -> list[ResultRecord]:
    """Return the results whose id begins with a prefix, at most `limit`."""
    rows = connection.execute(
        select(Result.__table__).where(Result.id.startswith(prefix, autoescape=True)).order_by(Result.id).limit(limit)
    ).all()
    return _with_metrics(connection, rows)


def _with_metrics(connection: Connection, rows: Iterable[Row[Any]]) -> list[ResultRecord]:
    found = list(rows)
    values: dict[str, dict[str, float]] = {row.id: {} for row in found}
    units: dict[str, dict[str, str]] = {row.id: {} for row in found}
    ids = list(values)
    for start in range(0, len(ids), 500):  # SQLite limits the number of parameters
        query = select(Metric.__table__).where(Metric.result_id.in_(ids[start : start + 500]))
        for metric in connection.execute(query.order_by(Metric.name)):
            values[metric.result_id][metric.name] = metric.value
            units[metric.result_id][metric.name] = metric.unit
    plain = [name for name in ResultRecord.__dataclass_fields__ if name not in {"result_id", "metrics", "units"}]
    return [
        ResultRecord(
            result_id=row.id,
            metrics=values[row.id],
            units=units[row.id],
            **{name: getattr(row, name) for name in plain},
        )
        for row in found
    ]
