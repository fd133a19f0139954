"""Which Ascend tools `npuq doctor` has to look at: this shell's, or those that the fleet in NPUQ_HOME emulates.

`npuq up --emulate` gives the emulated tools to its worker only, so a shell beside it knows nothing of them.
"""

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cli.doctoring.findings import Finding, ok
from cli.fleet import emulated
from cli.fleet.processes import ProcessTable

if TYPE_CHECKING:
    from npuq.config import Settings


def tools_of(settings: "Settings", shell: Mapping[str, str]) -> tuple[Mapping[str, str], Finding | None]:
    """Return the environment in which the host's tools are found, and a finding when it is not the shell's.

    A running worker tells which it uses. Without one, an emulated fleet counts where there are no other cards.
    """
    from cli.fleet.embedded import WORKER

    home = emulated.home_of(settings)
    worker = ProcessTable(settings.home / "run", settings.home / "log").find(WORKER)
    if worker is None:
        emulates = shutil.which("npu-smi", path=shell.get("PATH", "")) is None
    else:
        emulates = worker.facts.get("cards") is not None
    if not (emulates and emulated.is_installed(home)):
        return shell, None
    return emulated.environment(home, shell), ok(
        "tools", f"emulated, of the fleet in {home}; this shell's are not used"
    )
