"""What happened to devices, with reason and time: the memory behind their health. Rows are only added."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, func, insert, select

from db.records import DeviceEventRecord
from db.tables import Attempt, Device, DeviceEvent
from db.types import db_now
from npuq.errors import Blame
from npuq.states import DeviceCause, DeviceState

MEMORY_SECONDS: Final = 24 * 3600.0
"""Trouble older than this no longer counts."""


def add(connection: Connection, device_ids: Sequence[str], state: DeviceState, cause: DeviceCause, reason: str) -> None:
    """Note that devices are in a state now."""
    if device_ids:
        connection.execute(
            insert(DeviceEvent).values(at=db_now(), state=state, cause=cause, reason=reason),
            [{"device_id": device_id} for device_id in device_ids],
        )


def of_device(connection: Connection, device_id: str, limit: int = 50) -> list[DeviceEventRecord]:
    """Return what happened to a device, the newest first."""
    return find(connection, device_id=device_id, limit=limit)


def find(
    connection: Connection, *, device_id: str | None = None, since: datetime | None = None, limit: int = 50
) -> list[DeviceEventRecord]:
    """Return what happened to one device or to all, the newest first.

    Args:
        connection: a transaction.
        device_id: None: to any device.
        since: not before; an aware time.
        limit: at most so many.
    """
    query = select(DeviceEvent.__table__).order_by(DeviceEvent.id.desc()).limit(limit)
    if device_id is not None:
        query = query.where(DeviceEvent.device_id == device_id)
    # Rows are in the order of time, so the newest ones hold all that is wanted: no index on the time is needed.
    return [
        DeviceEventRecord(
            event_id=row.id,
            device_id=row.device_id,
            at=row.at,
            state=DeviceState(row.state),
            cause=DeviceCause(row.cause),
            reason=row.reason,
        )
        for row in connection.execute(query)
        if since is None or row.at >= since
    ]


def _forgiven(device_id: ColumnElement[str]) -> Any:  # noqa: ANN401 - a scalar subquery
    """Return when a person last put a device into service: what was before no longer counts against it."""
    return (
        select(func.max(DeviceEvent.at))
        .where(
            DeviceEvent.device_id == device_id,
            DeviceEvent.cause == DeviceCause.PERSON,
            DeviceEvent.state == DeviceState.ONLINE,
        )
        .scalar_subquery()
    )


def falls(connection: Connection, host_id: str) -> Mapping[str, Mapping[DeviceCause, int]]:
    """Return device id -> cause -> how often it took the device out of service in the last 24 hours."""
    later = DeviceEvent.__table__.alias("later")
    forgiven = (
        select(func.max(later.c.id))
        .where(
            later.c.device_id == DeviceEvent.device_id,
            later.c.cause == DeviceCause.PERSON,
            later.c.state == DeviceState.ONLINE,
        )
        .scalar_subquery()
    )
    rows = connection.execute(
        select(DeviceEvent.device_id, DeviceEvent.cause, func.count().label("times"))
        .join(Device, Device.id == DeviceEvent.device_id)
        .where(
            Device.host_id == host_id,
            DeviceEvent.state != DeviceState.ONLINE,
            DeviceEvent.at > db_now(-MEMORY_SECONDS),
            DeviceEvent.id > func.coalesce(forgiven, 0),
        )
        .group_by(DeviceEvent.device_id, DeviceEvent.cause)
    )
    found: dict[str, dict[DeviceCause, int]] = {}
    for row in rows:
        found.setdefault(row.device_id, {})[DeviceCause(row.cause)] = row.times
    return found


def errors(connection: Connection, device_id: str, code: str) -> int:
    """Return how many attempts failed on a device with a code, the chip being to blame, in the last 24 hours."""
    forgiven = _forgiven(Device.__table__.c.id)
    query = (
        select(func.count())
        .select_from(Attempt)
        .join(Device, Device.id == Attempt.device_id)
        .where(
            Attempt.device_id == device_id,
            Attempt.error_code == code,
            Attempt.error_blame == Blame.DEVICE,
            Attempt.finished_at > db_now(-MEMORY_SECONDS),
            (forgiven.is_(None)) | (Attempt.finished_at > forgiven),
        )
    )
    return int(connection.execute(query).scalar_one())
