"""Pins as a person writes them: `PASS=DEVICE`, the device by its id or a unique beginning of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cli.output import tell
from cli.submitting.request import Request
from npuq.errors import InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from db.records import DeviceRecord


def read_pins(request: Request, fleet: "Sequence[DeviceRecord] | None") -> Request:
    """Return a request with its pins read; `fleet` None: nobody can be asked which devices there are.

    Raises:
        InvalidRequestError: not of the form, or a pass pinned twice.
        NotFoundError: no pass of the recipe, or no device; the message names what is meant perhaps.
    """
    from scheduler.pins import check_passes
    from tasks import registry

    pins: dict[str, str] = {}
    for text in request.pin_pass or ():
        name, equals, device = (part.strip() for part in text.partition("="))
        if not equals or not name or not device:
            raise InvalidRequestError(f"--pin-pass {text!r}: write PASS=DEVICE; see: npuq devices list")
        if name in pins:
            raise InvalidRequestError(f"--pin-pass: {name} is pinned twice, and a pass has one device")
        pins[name] = device
    if not pins:
        return request
    check_passes(pins, registry.get(request.recipe))
    if fleet is None:
        tell("note: nobody here can be asked for devices; the run fails unless those of --pin-pass are their whole ids")
        return replace(request, pins=pins)
    return replace(request, pins={name: _whole_id(name, device, fleet) for name, device in pins.items()})


def _whole_id(name: str, text: str, fleet: "Sequence[DeviceRecord]") -> str:
    from cli.ids import choose_device

    try:
        return choose_device(fleet, text).device_id
    except NotFoundError as error:
        raise NotFoundError(f"--pin-pass {name}: {error}") from error
