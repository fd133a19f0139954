"""How npuq starts a Python program of its own: a fresh interpreter, our packages, whatever the surroundings say.

Never by fork: the chip's runtime does not survive it. Neither the current directory nor PYTHONPATH can put another
`worker` or `tasks` in front of ours; PYTHONPATH still counts for everybody else's modules (`aclruntime`, plug-ins).
"""

import sys
from collections.abc import Mapping
from typing import Final

from npuq.entry import INSTALLATION

_BOOTSTRAP: Final = """\
import sys
sys.path.insert(0, sys.argv[1])
from npuq.entry import search_garbage_seldom, pin_own_packages
del sys.path[0]
pin_own_packages()
search_garbage_seldom()
from importlib import import_module
raise SystemExit(import_module(sys.argv[2]).main(sys.argv[3:]))
"""

_PASSED: Final = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV"}
    | {"TE_PARALLEL_COMPILER", "MAX_COMPILE_CORE_NUMBER", "MULTI_THREAD_COMPILE", "NPUQ_EMULATOR_HOME"}
    | {"NPUQ_ASCEND_ERRORS"}
)
_PASSED_PREFIXES: Final = ("LC_", "ASCEND_", "OMP_", "OPENBLAS_", "MKL_")
#: Chips are addressed by logic id; the runtime would number them anew below these.
_RENUMBERING: Final = frozenset({"ASCEND_RT_VISIBLE_DEVICES", "ASCEND_DEVICE_ID"})


def program_command(module: str) -> list[str]:
    """Return the command line that runs `module.main(argv)` of our installation; arguments follow."""
    return [sys.executable, "-P", "-c", _BOOTSTRAP, str(INSTALLATION), module]


def job_environment(surroundings: Mapping[str, str]) -> dict[str, str]:
    """Return what a process that works on a job may know: an allow-list, so never where broker and database are.

    Unless told otherwise, numpy starts no threads of its own: nothing here multiplies large matrices with it, and each
    of a host's many processes would begin with one for every core, which spin until they have seen that.
    """
    return {"OPENBLAS_NUM_THREADS": "1"} | {
        name: value
        for name, value in surroundings.items()
        if (name in _PASSED or name.startswith(_PASSED_PREFIXES)) and name not in _RENUMBERING
    }
