"""The chips and the CANN that a submission meets: looked up where there is a fleet, and missed aloud."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from cli.output import tell
from cli.session import Session
from cli.submitting.request import Request
from npuq.errors import DatabaseError
from npuq.states import JobKind

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

    if request.reference:
        return
    chips = [] if set(request.goals) <= _WITHOUT_CHIP else absent_chips([request.soc], fleet)
    for sentence in [*chips, *absent_cann([request.cann], fleet)]:
        tell(f"warning: {sentence}")
