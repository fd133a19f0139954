"""What a failed job means for the chip it ran on: counted, and judged by `worker.health`."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection

from db import device_events, devices
from db.records import DeviceRecord
from npuq.errors import Blame, DeviceBusyError, ErrorInfo
from npuq.log import get_logger
from npuq.states import DeviceKind
from tasks.ascend_signals import quarantine_after
from worker.health import after_error

#: Failures that no tool printed, so that they have no row in the table: a process that hangs in the driver stays.
_OUR_LIMITS: Final[Mapping[str, int]] = {"unkillable": 1}
log = get_logger(__name__)


def note_error(connection: Connection, device: DeviceRecord, error: ErrorInfo) -> None:
    """Take a chip out of service when its own failures have become too many; in the transaction that failed the job.

    That somebody else is on a chip is no failure of it.
    """
    blamed = error.blame is Blame.DEVICE and error.code != DeviceBusyError.code
    if device.kind is not DeviceKind.NPU or not blamed:
        return
    times = device_events.errors(connection, device.device_id, error.code)
    limit = _OUR_LIMITS.get(error.code, quarantine_after(error.code))
    ruling = after_error(error.code, times, limit)
    if ruling is not None:
        log.error("device_quarantined", device=device.device_id, reason=ruling.reason)
        devices.set_state(connection, device.device_id, ruling.state, ruling.reason, ruling.cause)
