"""The chips that ATC compiles for, by its own names: what a person types is held against them. Pure, and data only.

The list is what is known of the toolkits; a chip that is registered counts too, which is its users' business.
"""

import difflib
from typing import Final

KNOWN: Final = frozenset(
    {
        *("Ascend310", *(f"Ascend310P{number}" for number in range(1, 8))),
        *(f"Ascend310B{number}" for number in range(1, 5)),
        *("Ascend910", "Ascend910A", "Ascend910B", "Ascend910ProA", "Ascend910ProB", "Ascend910PremiumA"),
        *("Ascend910B1", "Ascend910B2", "Ascend910B2C", "Ascend910B3", "Ascend910B4", "Ascend910B4-1"),
        *("Ascend910_9362", "Ascend910_9372", "Ascend910_9381", "Ascend910_9382", "Ascend910_9391", "Ascend910_9392"),
    }
)
NEWEST_FAMILY: Final = "Ascend950"
"""Its members are not all known: any name that begins so may be one."""


def is_known(soc_version: str) -> bool:
    """Tell whether toolkits are known to compile for a chip of that name; the case of letters counts."""
    return soc_version in KNOWN or soc_version.startswith(NEWEST_FAMILY)


def closest(soc_version: str) -> str | None:
    """Return the known name that is meant perhaps, None when none is near."""
    by_folded = {_folded(name): name for name in sorted(KNOWN)}
    found = difflib.get_close_matches(_folded(soc_version), by_folded, n=1, cutoff=0.7)
    return by_folded[found[0]] if found else None


def _folded(soc_version: str) -> str:
    """Return what tells one name from another: all begin alike."""
    return soc_version.casefold().removeprefix("ascend")
