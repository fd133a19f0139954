"""The chips and the CANN that a submission meets: looked up where there is a fleet, and missed aloud."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from cli.output import tell
from cli.session import Session
from cli.submitting.request import Request
from npuq.errors import DatabaseError
from npuq.states import DeviceState, JobKind

if TYPE_CHECKING:
    from db.records import DeviceRecord

#: What the host does alone: a conversion is for a chip that need not be there.
_WITHOUT_CHIP: Final = frozenset({JobKind.EXPORT, JobKind.CONVERT})


def known_devices(session: Session) -> "Sequence[DeviceRecord] | None":
    """Return the registered devices, None where nobody can be asked."""
    from db import devices

    try:
        with session.read() as connection:
            return devices.find(connection, suspect_seconds=session.settings.timing.suspect_seconds)
    except DatabaseError:
        return None


def warn_of_absences(request: Request, fleet: "Sequence[DeviceRecord]") -> None:
    """Say on stderr that jobs will wait for a chip or a CANN which the fleet does not have."""
    from cli.fleet_fit import absent_cann, absent_chips
    from scheduler.pins import why_pin_waits

    if request.reference:
        return
    pinned = set(request.pins.values())
    chips = [] if set(request.goals) <= _WITHOUT_CHIP else absent_chips([request.soc], fleet)
    pins = [
        why_pin_waits(device.device_id, fleet) for device in fleet if _is_away(device) and device.device_id in pinned
    ]
    for sentence in [*chips, *absent_cann([request.cann], fleet), *pins]:
        tell(f"warning: {sentence}")


def _is_away(device: "DeviceRecord") -> bool:
    return device.state not in {DeviceState.ONLINE, DeviceState.BUSY}
