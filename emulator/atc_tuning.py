"""What `--auto_tune_mode` does before a conversion: it wants memory on the host, and says how much there is.

Tuning looks for faster kernels, which the emulated chips do not have: it changes neither numbers nor times here.
"""

from pathlib import Path
from typing import Final

from emulator.atc_errors import AtcError

MEMORY_FACTS: Final = Path("/proc/meminfo")
SMALLEST_KB: Final = 2 * 1024 * 1024
_AVAILABLE: Final = "MemAvailable:"


def announce(memory_facts: Path | None = None) -> str:
    """Return the line that atc prints on the host's free memory; raises AtcError, E10044, when it is too little.

    Args:
        memory_facts: what the kernel says of memory; None: this host's. One that does not tell passes, as with the
            real tool.
    """
    available_kb = _available_kb(memory_facts or MEMORY_FACTS)
    said = f"Current available mem is {available_kb}kB."
    if 0 < available_kb < SMALLEST_KB:
        raise AtcError("E10044", f"{said} It must not be less than {SMALLEST_KB}kB.", "Free memory on the host.")
    return said


def _available_kb(memory_facts: Path) -> int:
    """Return what `/proc/meminfo` says is available, 0 when it does not."""
    try:
        lines = memory_facts.read_text("ascii").splitlines()
    except OSError:
        return 0
    found = next((line.removeprefix(_AVAILABLE).split() for line in lines if line.startswith(_AVAILABLE)), ["0"])
    return int(found[0])
