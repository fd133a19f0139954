"""Hosts and devices: registration, heartbeats, health, and what people say about them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, exists, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from db import device_events
from db.records import DeviceRecord, NewDevice
from db.tables import Attempt, Device, Host
from db.types import db_now
from npuq.errors import Blame, NotFoundError, NpuqError
from npuq.states import AttemptState, DeviceCause, DeviceKind, DeviceState

FORGOTTEN_SECONDS: Final = 600.0
"""A device that its host has not seen for so long is not waited for."""
#: States that people or health set; a launcher's registration does not change them.
_KEPT: Final = (DeviceState.DRAINING, DeviceState.QUARANTINED)
#: Drained by a launcher that is about to end: what the next one finds like this is its own again.
_STOPPING: Final = and_(Device.state == DeviceState.DRAINING, Device.state_cause == DeviceCause.HOST_STOPPED)


def _dialect(connection: Connection) -> Any:  # noqa: ANN401 - one of two modules
    return postgresql if connection.dialect.name == "postgresql" else sqlite


class HostNameTakenError(NpuqError):
    """Another machine of the fleet is alive under this host's name; its jobs must not be taken over."""

    code = "host_name_taken"
    blame = Blame.HOST


def claim_name(connection: Connection, host_id: str, machine: str, *, suspect_seconds: float) -> None:
    """Make sure that nobody else beats under a host's name; call it before every `register` of a launcher.

    Args:
        connection: of the transaction that registers.
        host_id: the name.
        machine: what tells this machine from others, "" where nothing does.
        suspect_seconds: a heartbeat older than this is nobody's.

    Raises:
        HostNameTakenError: the name belongs to another machine that is alive.
    """
    row = connection.execute(
        select(Host.facts, (Host.heartbeat_at < db_now(-suspect_seconds)).label("silent"))
        .where(Host.id == host_id)
        .with_for_update()
    ).one_or_none()
    owner = "" if row is None else row.facts.get("machine", "")
    if row is not None and not row.silent and owner and machine and owner != machine:
        raise HostNameTakenError(
            f"another machine is alive as host {host_id!r} in this fleet; give this one a name of its own "
            "(NPUQ_HOST_NAME), or wait until the other has been stopped"
        )


def register(
    connection: Connection,
    host_id: str,
    facts: Mapping[str, Any],
    devices: Sequence[NewDevice],
    *,
    complete: bool = True,
) -> None:
    """Write what a launcher found: the host is alive, these devices are there, its others are lost.

    Unless the list is `complete`, nothing is said about the others: nobody could look at them.

    A device that people drained or health quarantined stays so; one that a launcher drained because it stopped comes
    online. A lost one comes online when only its launcher was
    away; a chip that had vanished has to prove itself first (`move`).
    """
    dialect = _dialect(connection)
    host = dialect.insert(Host).values(id=host_id, heartbeat_at=db_now(), facts=dict(facts))
    connection.execute(
        host.on_conflict_do_update(index_elements=["id"], set_={"heartbeat_at": db_now(), "facts": host.excluded.facts})
    )
    known = set(connection.execute(select(Device.id).where(Device.host_id == host_id)).scalars())
    for device in sorted(devices, key=lambda item: item.device_id):
        columns = {name: value for name, value in vars(device).items() if name != "device_id"}
        row = dialect.insert(Device).values(
            id=device.device_id,
            host_id=host_id,
            state=DeviceState.ONLINE,
            state_cause=DeviceCause.FOUND,
            state_at=db_now(),
            seen_at=db_now(),
            loaded=[],
            **columns,
        )
        updated = {name: getattr(row.excluded, name) for name in columns}
        connection.execute(
            row.on_conflict_do_update(index_elements=["id"], set_={**updated, "host_id": host_id, "seen_at": db_now()})
        )
    ids = [device.device_id for device in devices]
    new = sorted(set(ids) - known)
    device_events.add(connection, new, DeviceState.ONLINE, DeviceCause.FOUND, "seen for the first time")
    proven = or_(Device.kind == DeviceKind.HOST, Device.state_cause != DeviceCause.VANISHED)
    back = (Device.id.in_(ids), or_(and_(Device.state == DeviceState.LOST, proven), _STOPPING))
    _move_all(connection, back, DeviceState.ONLINE, DeviceCause.RETURNED, "")
    if not complete:
        return
    still = or_(Device.state.not_in([*_KEPT, DeviceState.LOST]), _STOPPING)
    gone = (Device.host_id == host_id, Device.id.not_in(ids), still)
    _move_all(connection, gone, DeviceState.LOST, DeviceCause.VANISHED, "no longer seen by its host")


def _move_all(
    connection: Connection,
    which: Sequence[ColumnElement[bool]],
    state: DeviceState,
    cause: DeviceCause,
    reason: str,
) -> None:
    """Move the devices that meet all conditions, and note it."""
    found = list(connection.execute(select(Device.id).where(*which).order_by(Device.id).with_for_update()).scalars())
    if not found:
        return
    connection.execute(
        update(Device)
        .where(Device.id.in_(found))
        .values(state=state, state_cause=cause, state_reason=reason, state_at=db_now())
    )
    device_events.add(connection, found, state, cause, reason)


def identities(connection: Connection, host_id: str) -> dict[str, str]:
    """Return stable identity -> device id of a host's devices."""
    rows = connection.execute(select(Device.identity, Device.id).where(Device.host_id == host_id).order_by(Device.id))
    return {row.identity: row.id for row in rows}


def learn_baseline(connection: Connection, device_id: str, memory_mib: int) -> None:
    """Note what npu-smi shows as used on a chip that nobody uses."""
    connection.execute(update(Device).where(Device.id == device_id).values(memory_baseline_mib=memory_mib))


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


def host_stopping(connection: Connection, host_id: str) -> None:
    """Say that a host's launcher begins to stop: its devices finish what they have and are given nothing new."""
    here = (Device.host_id == host_id, Device.state.not_in([*_KEPT, DeviceState.LOST]))
    _move_all(connection, here, DeviceState.DRAINING, DeviceCause.HOST_STOPPED, "its host is stopping")


def host_silent(connection: Connection, host_id: str) -> None:
    """Say that a host's launcher has stopped in good order: its devices are lost at once."""
    here = (Device.host_id == host_id, or_(Device.state.not_in([*_KEPT, DeviceState.LOST]), _STOPPING))
    _move_all(connection, here, DeviceState.LOST, DeviceCause.HOST_STOPPED, "its host was stopped")


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


def set_state(
    connection: Connection,
    device_id: str,
    state: DeviceState,
    reason: str,
    cause: DeviceCause = DeviceCause.PERSON,
) -> DeviceState:
    """Drain, quarantine or resume a device, with the reason; returns the state before.

    A person who resumes a device forgives it what it did, and says that its memory is as it should be.

    Raises:
        NotFoundError: there is no such device.
    """
    before = connection.execute(select(Device.state).where(Device.id == device_id).with_for_update()).scalar()
    if before is None:
        raise NotFoundError(f"no device {device_id!r}; see: npuq devices list")
    _move_all(connection, (Device.id == device_id,), state, cause, reason)
    if state is DeviceState.ONLINE and cause is DeviceCause.PERSON:
        connection.execute(update(Device).where(Device.id == device_id).values(memory_baseline_mib=None))
    return DeviceState(before)


def move(
    connection: Connection, device_id: str, expected_cause: str, state: DeviceState, cause: DeviceCause, reason: str
) -> None:
    """Move a device as its health demands, unless somebody else moved it since it was looked at."""
    still = (Device.id == device_id, Device.state_cause == expected_cause)
    _move_all(connection, still, state, cause, reason)


@lru_cache(maxsize=8)
def _query(suspect_seconds: float) -> Select[Any]:
    """Made once for a fleet's settings: making it takes longer than asking, and the scheduler asks at every tick."""
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
