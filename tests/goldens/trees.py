"""Where golden data lie: the compact copy beside this file, and the whole tree where this machine has it."""

import os
from pathlib import Path
from typing import Final

COMPACT: Final = Path(__file__).parent
_ROOT: Final = COMPACT.parents[1]


def whole_tree() -> Path:
    """Return where the whole tree would lie: `$NPUQ_SHARED/goldens`, else `../shared/goldens` of the checkout."""
    shared = os.environ.get("NPUQ_SHARED")
    return (Path(shared) if shared else _ROOT.parent / "shared") / "goldens"
