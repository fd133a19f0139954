"""Whether the Ascend tools that would be used here are an emulator's, told by the tools themselves.

No variable is believed: whoever put an emulator's folders on the paths by hand gets emulated results as well. An
emulator's home is a folder with `fleet.json`, its programs in `bin`, its module in `python`. Nothing is run here.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tasks import cann

_FLEET_FILE: Final = "fleet.json"
_MODULE: Final = "aclruntime.py"
#: How an emulated toolkit's version ends, whatever it says before.
_VERSION_SUFFIX: Final = "-emulated"


def has_emulated_chips(environment: Mapping[str, str]) -> bool:
    """Tell whether the chips of this host are emulated: those that are listed, or what would compute on them."""
    return _is_emulated_program("npu-smi", environment) or any(map(_is_in_emulator_home, _modules(environment)))


def has_emulated_host_tools(environment: Mapping[str, str]) -> bool:
    """Tell whether anything that the host's slots would use is emulated: the default CANN, `atc`, or the chips."""
    default = next(iter(cann.toolkits(environment)), None)
    return (
        has_emulated_chips(environment)
        or _is_emulated_program("atc", environment)
        or (default is not None and default.version.endswith(_VERSION_SUFFIX))
    )


def _is_emulated_program(name: str, environment: Mapping[str, str]) -> bool:
    found = shutil.which(name, path=environment.get("PATH", ""))
    return found is not None and _is_in_emulator_home(Path(found))


def _modules(environment: Mapping[str, str]) -> Iterator[Path]:
    for folder in filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)):
        module = Path(folder) / _MODULE
        if module.is_file():
            yield module


def _is_in_emulator_home(tool: Path) -> bool:
    return (tool.resolve().parent.parent / _FLEET_FILE).is_file()
