"""Hosts and devices: registration, heartbeats, health, and what people say about them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, case, exists, select, update
from sqlalchemy.dialects import postgresql, sqlite

from db.records import DeviceRecord, NewDevice
from db.tables import Attempt, Device, Host
from db.types import db_now
from npuq.errors import Blame, NotFoundError
from npuq.states import ACTIVE_ATTEMPT_STATES, AttemptState, DeviceKind, DeviceState

#: States that people or health set; a launcher's registration does not change them.
FORGOTTEN_SECONDS: Final = 600.0
"""A device that its host has not seen for so long is not waited for."""
OFFENCES: Final = 3
"""So many failures in a row that are a device's own fault take it out of service."""
_KEPT: Final = (DeviceState.DRAINING, DeviceState.QUARANTINED)


def _dialect(connection: Connection) -> Any:  # noqa: ANN401 - one of two modules
    return postgresql if connection.dialect.name == "postgresql" else sqlite


def register(connection: Connection, host_id: str, facts: Mapping[str, Any], devices: Sequence[NewDevice]) -> None:
    """Write what a launcher found: the host is alive, these devices are there, its others are lost.

    A device that people drained or health quarantined stays so; a lost one that is back comes online.
    """
    dialect = _dialect(connection)
    host = dialect.insert(Host).values(id=host_id, heartbeat_at=db_now(), facts=dict(facts))
    connection.execute(
        host.on_conflict_do_update(index_elements=["id"], set_={"heartbeat_at": db_now(), "facts": host.excluded.facts})
    )
    for device in sorted(devices, key=lambda item: item.device_id):
        columns = {name: value for name, value in vars(device).items() if name != "device_id"}
        row = dialect.insert(Device).values(
            id=device.device_id,
            host_id=host_id,
            state=DeviceState.ONLINE,
            state_at=db_now(),
            seen_at=db_now(),
            loaded=[],
            **columns,
        )
        back = Device.state == DeviceState.LOST
        connection.execute(
            row.on_conflict_do_update(
                index_elements=["id"],
                set_={
                    **{name: getattr(row.excluded, name) for name in columns},
                    "host_id": host_id,
                    "seen_at": db_now(),
                    "state": case((back, DeviceState.ONLINE), else_=Device.state),
                    "state_reason": case((back, ""), else_=Device.state_reason),
                    "state_at": case((back, db_now()), else_=Device.state_at),
                },
            )
        )
    connection.execute(
        update(Device)
        .where(
            Device.host_id == host_id,
            Device.id.not_in([device.device_id for device in devices]),
            Device.state.not_in([*_KEPT, DeviceState.LOST]),
        )
        .values(state=DeviceState.LOST, state_reason="no longer seen by its host", state_at=db_now())
    )


def host_beat(connection: Connection, host_id: str) -> list[str]:
    """Renew a host's heartbeat; returns the devices whose worker the scheduler wants restarted, and clears that."""
    connection.execute(update(Host).where(Host.id == host_id).values(heartbeat_at=db_now()))
    asked = (
        connection.execute(
            select(Device.id).where(Device.host_id == host_id, Device.restart_asked_at.is_not(None)).with_for_update()
        )
        .scalars()
        .all()
    )
    if asked:
        connection.execute(update(Device).where(Device.id.in_(asked)).values(restart_asked_at=None))
    return list(asked)


def host_silent(connection: Connection, host_id: str) -> None:
    """Say that a host's launcher stops in good order: its devices are lost at once."""
    connection.execute(
        update(Device)
        .where(Device.host_id == host_id, Device.state.not_in([*_KEPT, DeviceState.LOST]))
        .values(state=DeviceState.LOST, state_reason="its host was stopped", state_at=db_now())
    )


def ask_restart(connection: Connection, device_id: str) -> None:
    """Ask a device's launcher to restart its worker."""
    connection.execute(
        update(Device)
        .where(Device.id == device_id, Device.restart_asked_at.is_(None))
        .values(restart_asked_at=db_now())
    )


def note_loaded(connection: Connection, device_id: str, digests: Sequence[str]) -> None:
    """Note which models a device's process keeps loaded."""
    connection.execute(update(Device).where(Device.id == device_id).values(loaded=list(digests)))


def set_state(connection: Connection, device_id: str, state: DeviceState, reason: str) -> DeviceState:
    """Drain, quarantine or resume a device, with the reason; returns the state before.

    Raises:
        NotFoundError: there is no such device.
    """
    before = connection.execute(select(Device.state).where(Device.id == device_id).with_for_update()).scalar()
    if before is None:
        raise NotFoundError(f"no device {device_id!r}; see: npuq devices list")
    connection.execute(
        update(Device).where(Device.id == device_id).values(state=state, state_reason=reason, state_at=db_now())
    )
    return DeviceState(before)


def quarantine_repeat_offender(connection: Connection, device_id: str) -> bool:
    """Quarantine a device whose last attempts all failed by its own fault; True when it was."""
    newest = connection.execute(
        select(Attempt.state, Attempt.error_blame)
        .where(Attempt.device_id == device_id, Attempt.state.not_in([*ACTIVE_ATTEMPT_STATES, AttemptState.WITHDRAWN]))
        .order_by(Attempt.created_at.desc())
        .limit(OFFENCES)
    ).all()
    guilty = [row for row in newest if row.state == AttemptState.FAILED and row.error_blame == Blame.DEVICE.value]
    if len(guilty) < OFFENCES:
        return False
    set_state(connection, device_id, DeviceState.QUARANTINED, f"{OFFENCES} attempts in a row failed by its fault")
    return True


def _query(suspect_seconds: float) -> Select[Any]:
    return select(
        Device.__table__,
        (Host.heartbeat_at < db_now(-suspect_seconds)).label("silent"),
        (Device.seen_at < db_now(-FORGOTTEN_SECONDS)).label("forgotten"),
        exists().where(Attempt.device_id == Device.id, Attempt.state == AttemptState.RUNNING).label("occupied"),
    ).join(Host, Host.id == Device.host_id)


def find(connection: Connection, *, suspect_seconds: float, kind: DeviceKind | None = None) -> list[DeviceRecord]:
    """Return all devices, ordered by host and id; `busy` and `lost` (silent host) are derived here."""
    query = _query(suspect_seconds).order_by(Device.host_id, Device.kind.desc(), Device.logic_id, Device.id)
    if kind is not None:
        query = query.where(Device.kind == kind)
    return [as_record(row) for row in connection.execute(query)]


def get(connection: Connection, device_id: str, *, suspect_seconds: float) -> DeviceRecord:
    """Return one device; raises NotFoundError."""
    row = connection.execute(_query(suspect_seconds).where(Device.id == device_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"no device {device_id!r}; see: npuq devices list")
    return as_record(row)


def hosts(connection: Connection) -> list[tuple[str, datetime, Mapping[str, Any]]]:
    """Return (id, last heartbeat, facts) of every host."""
    rows = connection.execute(select(Host.__table__).order_by(Host.id))
    return [(row.id, row.heartbeat_at, row.facts) for row in rows]


def as_record(row: Row[Any]) -> DeviceRecord:
    """Return the value of a row of `_query`."""
    state, reason = DeviceState(row.state), row.state_reason
    if row.silent and state is DeviceState.ONLINE:
        state, reason = DeviceState.LOST, "its host is silent"
    elif row.occupied and state is DeviceState.ONLINE:
        state = DeviceState.BUSY
    derived = {"device_id", "host", "state", "state_reason", "loaded", "forgotten"}
    return DeviceRecord(
        device_id=row.id,
        host=row.host_id,
        state=state,
        state_reason=reason,
        loaded=tuple(row.loaded),
        forgotten=bool(row.forgotten),
        **{name: getattr(row, name) for name in DeviceRecord.__dataclass_fields__ if name not in derived},
    )
