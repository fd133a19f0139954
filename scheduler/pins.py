"""Passes that a person pins to devices, checked against the recipe and the fleet. Pure.

A pin is kept however its device fares: the jobs wait for it and run nowhere else.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence

from db.records import DeviceRecord
from npuq.errors import InvalidRequestError, NotFoundError
from npuq.states import DeviceKind, DeviceState
from tasks.protocols import Recipe


def check_passes(names: Iterable[str], recipe: Recipe) -> None:
    """Refuse a pass that a recipe does not have; raises NotFoundError with the one that is meant perhaps."""
    for name in names:
        if name not in recipe.passes:
            close = difflib.get_close_matches(name, recipe.passes, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise NotFoundError(
                f"--pin-pass: {recipe.id} has no pass {name!r}; {hint}It has {', '.join(recipe.passes)}"
            )


def pinned_soc_version(
    pins: Mapping[str, str], recipe: Recipe, devices: Sequence[DeviceRecord], soc_version: str | None
) -> str | None:
    """Return the chip that pins imply, None where nothing is pinned.

    Args:
        pins: pass -> whole id of a device.
        recipe: whose passes they are.
        devices: every registered device, those that are lost or sick included.
        soc_version: what the run is compiled for; None: for what the pinned devices are.

    Raises:
        NotFoundError: a pass that the recipe does not have, or a device that is not registered.
        InvalidRequestError: a device that is no chip, or another chip than the run is for.
    """
    check_passes(pins, recipe)
    known = {device.device_id: device for device in devices}
    wanted = soc_version
    for name, device_id in pins.items():
        device = known.get(device_id)
        if device is None:
            raise NotFoundError(f"--pin-pass {name}: no device is {device_id!r}; see: npuq devices list --all")
        if device.kind is not DeviceKind.NPU:
            raise InvalidRequestError(f"--pin-pass {name}: {device_id} is no chip but a slot for work of a host")
        if wanted is not None and device.soc_version != wanted:
            whose = "this run is for" if soc_version is not None else "another pass is pinned to an"
            raise InvalidRequestError(
                f"--pin-pass {name}: {device_id} is an {device.soc_version}, and {whose} {wanted}; a model is compiled "
                "for one kind of chip"
            )
        wanted = device.soc_version
    return wanted if pins else None


def why_pin_waits(device_id: str, devices: Iterable[DeviceRecord]) -> str:
    """Return in words what a job that is pinned to a device waits for."""
    device = next((each for each in devices if each.device_id == device_id), None)
    told = f"it is pinned to {device_id}"
    if device is None:
        return f"{told}, which is not registered any more; it runs nowhere else"
    if device.state is DeviceState.BUSY:
        return f"{told}, which is busy"
    if device.state is DeviceState.ONLINE:
        return told
    reason = f" ({device.state_reason})" if device.state_reason else ""
    return f"{told}, which is {device.state}{reason}; it waits for that device and runs nowhere else"
