"""Finds CANN on this host: which toolkits there are, side by side, their versions, and where each one's `atc` is.

CANN does not come from PyPI. Nothing here runs anything.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from npuq.errors import ToolMissingError
from npuq.specs import TOOLCHAIN_PREFIX

TOOLKIT_VARIABLE: Final = "ASCEND_TOOLKIT_HOME"
#: Where toolkits lie when nobody says; the first folder that has one is the host's own, the rest is beside it.
USUAL_PLACES: Final = (
    "/usr/local/Ascend/ascend-toolkit/latest",
    "/usr/local/Ascend/cann",
    "/usr/local/Ascend/ascend-toolkit/*",
    "/usr/local/Ascend/cann-*",
)
_VERSION: Final = re.compile(r"^version\s*=\s*\[?([0-9][0-9A-Za-z._-]{0,39})", re.IGNORECASE | re.MULTILINE)
_ADVICE: Final = (
    "Install the CANN toolkit and source its set_env.sh before starting the worker, or, without a card, start an "
    "emulated fleet."
)


@dataclass(frozen=True, kw_only=True)
class Toolkit:
    """An installed CANN toolkit.

    Attributes:
        root: its folder.
        version: as its own files say, for example `8.0.RC2`.
        is_default: what this host uses when nobody asks for a version.
    """

    root: Path
    version: str
    is_default: bool = False

    @property
    def fingerprint(self) -> str:
        """Return what distinguishes it in content keys, for example `cann-8.0.RC2`."""
        return f"{TOOLCHAIN_PREFIX}{self.version}"


def toolkits(environment: Mapping[str, str]) -> tuple[Toolkit, ...]:
    """Return the toolkits of this host, the default one first; of equal versions the first found.

    The default is what the environment names, else the first of the usual places. Toolkits beside it count too: an
    administrator keeps versions side by side as `ascend-toolkit/8.0.RC2`, `ascend-toolkit/7.0.0`.
    """
    found: dict[str, Toolkit] = {}
    for root in _candidates(environment):
        number = version(root)
        if number is not None and number not in found:
            found[number] = Toolkit(root=root, version=number, is_default=not found)
    return tuple(found.values())


def _candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    named = environment.get(TOOLKIT_VARIABLE)
    if named:
        yield Path(named)
        yield from filter(_has_compiler, _folders(Path(named).parent, "*"))
        return
    for place in USUAL_PLACES:
        yield from filter(_has_compiler, _folders(Path(place).parent, Path(place).name))


def _folders(parent: Path, pattern: str) -> list[Path]:
    return sorted(path for path in parent.glob(pattern) if path.is_dir())


def _has_compiler(folder: Path) -> bool:
    """Tell a toolkit from the driver and the firmware, which lie beside CANN 9 and say versions of their own."""
    parts = (folder / "compiler", folder / "bin" / "atc")
    return any(part.exists() for part in parts) or any(folder.glob("*-linux/ascend_toolkit_install.info"))


def version(toolkit: Path) -> str | None:
    """Return the toolkit's version as its own files say, for example `8.0.RC2`; None when they do not."""
    files = (
        *sorted(toolkit.glob("*-linux/ascend_toolkit_install.info")),
        toolkit / "compiler" / "version.info",
        toolkit / "version.info",
    )
    for file in files:
        if file.is_file() and (found := _VERSION.search(file.read_text(errors="replace"))):
            return found.group(1)
    return None


def find_toolkit(environment: Mapping[str, str], wanted: str | None = None) -> Toolkit:
    """Return a toolkit by version, the default one for None.

    Raises:
        ToolMissingError: there is none, or none of that version; the message names those that are there.
    """
    there = toolkits(environment)
    if not there:
        raise ToolMissingError(
            f"CANN was not found ({TOOLKIT_VARIABLE} and the usual folders), or does not say its version. {_ADVICE}"
        )
    if wanted is None:
        return there[0]
    for toolkit in there:
        if toolkit.version == wanted:
            return toolkit
    raise ToolMissingError(
        f"CANN {wanted} is not on this host; it has {', '.join(toolkit.version for toolkit in there)}."
    )


def fingerprint(environment: Mapping[str, str]) -> str:
    """Return what distinguishes this host's default toolchain in content keys; raises ToolMissingError."""
    return find_toolkit(environment).fingerprint


def find_atc(toolkit: Toolkit, environment: Mapping[str, str]) -> Path:
    """Return the absolute path of a toolkit's `atc`; of the default one, what is on PATH comes first.

    Raises:
        ToolMissingError: it has none.
    """
    places = [str(toolkit.root / "bin"), str(toolkit.root / "compiler" / "bin")]
    if toolkit.is_default:
        places.insert(0, environment.get("PATH", ""))
    found = shutil.which("atc", path=os.pathsep.join(places))
    if found is None:
        raise ToolMissingError(f"`atc` was not found on PATH or in the CANN toolkit {toolkit.root}. {_ADVICE}")
    return Path(found).absolute()
