"""Does the fleet have the chips that work is meant for? Pure, over records."""

from collections.abc import Iterable, Sequence

from db.records import DeviceRecord
from npuq.states import DeviceKind, DeviceState


def absent_chips(wanted: Iterable[str | None], fleet: Sequence[DeviceRecord]) -> list[str]:
    """Return a sentence for each kind of chip that is wanted and not there.

    Args:
        wanted: soc versions; None: any chip will do, so that nothing is missing.
        fleet: every registered device, those that are lost included.
    """
    there = {
        device.soc_version
        for device in fleet
        if device.kind is DeviceKind.NPU and device.state is not DeviceState.LOST and device.soc_version is not None
    }
    has = f"it has {', '.join(sorted(there))}" if there else "it has no chip"
    return [
        f"no {soc} is in the fleet now ({has}): the jobs for it wait until one is"
        for soc in sorted({soc for soc in wanted if soc is not None} - there)
    ]
