"""Does the fleet have the chips and the CANN that work is meant for? Pure, over records."""

from collections.abc import Iterable, Sequence

from db.records import DeviceRecord
from npuq.specs import TOOLCHAIN_PREFIX
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


def absent_cann(wanted: Iterable[str | None], fleet: Sequence[DeviceRecord]) -> list[str]:
    """Return a sentence for each version of CANN that is wanted and on no host.

    Args:
        wanted: versions; None: any will do, so that nothing is missing.
        fleet: every registered device, those that are lost included.
    """
    there = {
        toolchain.removeprefix(TOOLCHAIN_PREFIX)
        for device in fleet
        if device.kind is DeviceKind.HOST and device.state is not DeviceState.LOST
        for toolchain in device.toolchains
    }
    has = f"it has {', '.join(sorted(there))}" if there else "it has none"
    return [
        f"no CANN {version} is in the fleet now ({has}): the conversions with it wait until one is"
        for version in sorted({version for version in wanted if version is not None} - there)
    ]
