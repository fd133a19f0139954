"""Which row of the fleet a chip is: by its own number, so that reboots and new numbering change nothing. Pure.

A chip is known by its die id; where the card does not tell it, by its place on the bus; on boards without a bus, by
NPU and chip id. The weaker ways also find the row of a chip that was registered before its die id could be read.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

_SUFFIX_CHARACTERS: Final = 4


@dataclass(frozen=True, kw_only=True)
class FoundChip:
    """What tells one chip from another.

    Attributes:
        npu_id: the card's number now.
        chip_id: which chip of the card.
        bus_id: PCIe address; the chips of a Duo share one; None on boards.
        die_id: the chip's own number; None when it is not shown.
    """

    npu_id: int
    chip_id: int
    bus_id: str | None
    die_id: str | None


def die_identity(host: str, die_id: str) -> str:
    """Return the strongest name: by the chip's own number."""
    return f"{host}/die/{die_id}"


def identities(host: str, chips: Sequence[FoundChip]) -> list[tuple[str, ...]]:
    """Return for each chip the names by which its row may be known, the strongest first.

    A die id that two chips have (slices of one chip) tells neither from the other, and is not used.
    """
    dies = Counter(chip.die_id for chip in chips)
    return [
        (
            *([die_identity(host, chip.die_id)] if chip.die_id is not None and dies[chip.die_id] == 1 else []),
            *([f"{host}/{chip.bus_id}/{chip.chip_id}"] if chip.bus_id is not None else []),
            f"{host}/{chip.npu_id}/{chip.chip_id}",
        )
        for chip in chips
    ]


def assign(host: str, chips: Sequence[FoundChip], known: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (device id, identity) of each chip.

    Args:
        host: the host's id.
        chips: what is there now.
        known: identity -> device id of the rows that there are.
    """
    names = identities(host, chips)
    rows: dict[int, str] = {}
    for level in range(max((len(each) for each in names), default=0)):
        for number, each in enumerate(names):
            row = known.get(each[level]) if level < len(each) else None
            if number not in rows and row is not None and row not in rows.values():
                rows[number] = row
    used = {*known.values()}
    assigned: list[tuple[str, str]] = []
    for number, chip in enumerate(chips):
        identity = names[number][0]
        row = rows.get(number) or _new_id(f"{host}.npu{chip.npu_id}.{chip.chip_id}", identity, used)
        used.add(row)
        assigned.append((row, identity))
    return assigned


def _new_id(usual: str, identity: str, used: set[str]) -> str:
    """Return the usual id, or, when another chip has had that number, one that tells them apart."""
    return usual if usual not in used else f"{usual}-{sha256(identity.encode()).hexdigest()[:_SUFFIX_CHARACTERS]}"
