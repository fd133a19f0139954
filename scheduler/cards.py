"""Whole cards: which chips are one, how many a card has, and which card a measurement of a whole card goes to. Pure.

A card is the chips of one host with one NPU id, sick and absent ones included: a card with a chip missing is no card.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from db.records import DeviceRecord
from npuq.states import DeviceKind, DeviceState


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card as it is registered.

    Attributes:
        host, npu_id: which one.
        chips: all of its chips, by chip id.
    """

    host: str
    npu_id: int
    chips: tuple[DeviceRecord, ...]

    @property
    def name(self) -> str:
        """Return what a person calls it."""
        return f"card {self.npu_id} of {self.host}"


def cards_of(devices: Iterable[DeviceRecord], soc_version: str | None) -> list[Card]:
    """Return the cards with a kind of chip, by host and NPU id; chips that nobody has seen for long are not there."""
    found: dict[tuple[str, int], list[DeviceRecord]] = {}
    for device in devices:
        if device.kind is DeviceKind.NPU and device.npu_id is not None and not device.forgotten:
            found.setdefault((device.host, device.npu_id), []).append(device)
    return [
        Card(host=host, npu_id=npu_id, chips=tuple(sorted(chips, key=lambda chip: (chip.chip_id or 0, chip.device_id))))
        for (host, npu_id), chips in sorted(found.items())
        if all(chip.soc_version == soc_version for chip in chips)
    ]


def chips_of_a_card(devices: Iterable[DeviceRecord], soc_version: str | None) -> int | None:
    """Return how many chips a card has: as many as the largest, for a smaller one may show only a part of itself.

    None: there is no card with this chip.
    """
    return max((len(card.chips) for card in cards_of(devices, soc_version)), default=None)


def choose_card(
    cards: Sequence[Card],
    chips: int,
    *,
    working: frozenset[str],
    load: Mapping[str, int],
    avoid: frozenset[str],
    loaded: frozenset[str],
) -> Card | None:
    """Return the card that a measurement should have, whether it is free now or not; None: no card is whole and well.

    Args:
        cards: those with the right chip.
        chips: how many chips a whole one has.
        working: ids of the devices that may be given work.
        load: device id -> how many attempts it has.
        avoid: devices that failed it; their card comes last.
        loaded: devices that have the model loaded.
    """
    able = [
        card for card in cards if len(card.chips) == chips and all(chip.device_id in working for chip in card.chips)
    ]

    def cost(card: Card) -> tuple[bool, int, int, str, int]:
        ids = {chip.device_id for chip in card.chips}
        return (bool(ids & avoid), sum(load.get(each, 0) for each in ids), -len(ids & loaded), card.host, card.npu_id)

    return min(able, key=cost, default=None)


def why_card_waits(devices: Sequence[DeviceRecord], soc_version: str | None, chips: int) -> list[str]:
    """Return in words why no card, or which one, can be measured as a whole."""
    if chips == 1:
        return []
    cards = cards_of(devices, soc_version)
    whole = [card for card in cards if len(card.chips) == chips]
    if not whole:
        shown = ", ".join(f"{card.name} has {len(card.chips)}" for card in cards) or "there is none"
        return [f"it needs a card with {chips} chips of {soc_version}: {shown}"]
    return [
        f"it needs all {chips} chips of a card at once; a part of a card is not measured as a card",
        *(f"{card.name}: {_states(card)}" for card in whole),
    ]


def _states(card: Card) -> str:
    return ", ".join(
        f"{chip.device_id} is {chip.state}"
        + (f" ({chip.state_reason})" if chip.state_reason and chip.state is not DeviceState.ONLINE else "")
        for chip in card.chips
    )
