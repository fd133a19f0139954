"""Writing an emulator home: the fleet file, the programs for PATH, the module for PYTHONPATH, the toolkit's versions.

The programs are launchers of a few lines that run this package with this interpreter, whatever the current directory.
The toolkit folder has what is read on a real host to learn the CANN version: `<arch>-linux/ascend_toolkit_install.info`
(`version=`) and `compiler/version.info` (`Version=`).
"""

import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from emulator.fleet import DRIVER_VERSION, Chip, Fleet, FleetFileError, Mode, ServiceTime
from emulator.home import ENVIRONMENT_VARIABLE, Home

#: The version that `ais_bench` works with; it warns of any other.
ACLRUNTIME_VERSION: Final = "0.0.2"
CHECKOUT: Final = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class ChipProfile:
    """What a kind of chip is like, from tables of real cards.

    Attributes:
        memory_total_mb: device memory; of the 910 family the high bandwidth memory.
        memory_idle_mb: of it used when nothing runs.
        power_w: rated power, None prints `NA`.
        ddr_total_mb: memory beside the high bandwidth memory.
        has_bus: whether it sits on a PCIe bus; boards print `NA`.
        soc: what ATC compiles for, where the name does not tell.
    """

    memory_total_mb: int
    memory_idle_mb: int
    power_w: float | None
    ddr_total_mb: int = 0
    has_bus: bool = True
    soc: str = ""


#: npu-smi Name -> what it is like.
CHIP_PROFILES: Final[dict[str, ChipProfile]] = {
    "310": ChipProfile(memory_total_mb=7759, memory_idle_mb=577, power_w=12.8),
    "310P1": ChipProfile(memory_total_mb=21527, memory_idle_mb=1074, power_w=16.5),
    "310P3": ChipProfile(memory_total_mb=21527, memory_idle_mb=1074, power_w=16.5),
    "310B1": ChipProfile(memory_total_mb=11577, memory_idle_mb=1797, power_w=7.2, has_bus=False),
    "310B4": ChipProfile(memory_total_mb=3513, memory_idle_mb=1331, power_w=7.2, has_bus=False),
    "910A": ChipProfile(memory_total_mb=32768, memory_idle_mb=1, power_w=64.3, ddr_total_mb=15079),
    "910B3": ChipProfile(memory_total_mb=65536, memory_idle_mb=3316, power_w=89.9),
    "910B4": ChipProfile(memory_total_mb=32768, memory_idle_mb=2871, power_w=82.6),
    "Ascend910": ChipProfile(memory_total_mb=65536, memory_idle_mb=2876, power_w=162.8, soc="Ascend910_9391"),
}


@dataclass(frozen=True, kw_only=True)
class FleetPlan:
    """What `install` is asked for.

    Attributes:
        cards: number of cards.
        chip: npu-smi Name of all chips, a key of `CHIP_PROFILES`.
        chips_per_card: 1; 2 on a 300I Duo; 4 on a 300I with 310 chips.
        npu_ids: one per card, ascending; empty: from 0.
        memory_mb: of each chip; None: as its profile says.
        driver: version that npu-smi prints; decides the layout of its tables.
        mode: what an execution does.
        service_time: for timed mode.
    """

    cards: int
    chip: str = "310P3"
    chips_per_card: int = 1
    npu_ids: Sequence[int] = ()
    memory_mb: int | None = None
    driver: str = DRIVER_VERSION
    mode: Mode = Mode.COMPUTED
    service_time: ServiceTime = field(default_factory=ServiceTime)


def build_fleet(plan: FleetPlan) -> Fleet:
    """Return the fleet of a plan; raises FleetFileError when the plan is impossible."""
    npu_ids = tuple(plan.npu_ids) or tuple(range(plan.cards))
    if plan.chip not in CHIP_PROFILES:
        raise FleetFileError(f"unknown chip {plan.chip!r}; emulated are {', '.join(CHIP_PROFILES)}")
    if plan.cards < 1 or plan.chips_per_card < 1:
        raise FleetFileError("a fleet needs at least one card with one chip")
    if len(npu_ids) != plan.cards or len(set(npu_ids)) != plan.cards:
        raise FleetFileError(f"{plan.cards} cards need as many different NPU ids, got {list(npu_ids)}")
    profile = CHIP_PROFILES[plan.chip]
    chips = tuple(
        Chip(
            logic_id=card * plan.chips_per_card + chip_id,
            npu_id=npu_id,
            chip_id=chip_id,
            bus_id=_bus_id(plan, card, chip_id),
            name=plan.chip,
            memory_total_mb=plan.memory_mb or profile.memory_total_mb,
            memory_idle_mb=profile.memory_idle_mb,
            power_w=profile.power_w,
            ddr_total_mb=profile.ddr_total_mb,
            die_id=_die_id(plan.chip, npu_id, chip_id),
            soc=profile.soc,
        )
        for card, npu_id in enumerate(npu_ids)
        for chip_id in range(plan.chips_per_card)
    )
    return Fleet(chips=chips, driver_version=plan.driver, mode=plan.mode, service_time=plan.service_time)


def _die_id(name: str, npu_id: int, chip_id: int) -> str:
    """Return a number that looks like a die's; `fleet.json` keeps it when somebody numbers the cards anew."""
    digits = sha256(f"{name}/{npu_id}/{chip_id}".encode()).hexdigest().upper()
    return " ".join(digits[start : start + 8] for start in range(0, 40, 8))


def _bus_id(plan: FleetPlan, card: int, chip_id: int) -> str:
    """Return a PCIe address: the two chips of a 300I Duo share one, the four of a 300I do not; boards have none."""
    if not CHIP_PROFILES[plan.chip].has_bus:
        return "NA"
    shared = plan.chip.startswith("310P")
    bus = card + 1 if shared else card * plan.chips_per_card + chip_id + 1
    return f"{bus >> 8:04X}:{bus & 0xFF:02X}:00.0"


def install(root: Path, plan: FleetPlan, *, force: bool = False) -> Home:
    """Write a home and return it.

    A fleet file that is there is kept, with its faults, unless `force`; programs and module are always renewed, as
    the interpreter or this package may have moved.

    Raises:
        FleetFileError: the plan is impossible, or the folder cannot be written.
    """
    home = Home(root)
    fleet = build_fleet(plan)
    try:
        for folder in ("bin", "python", "locks", "processes"):
            (home.root / folder).mkdir(parents=True, exist_ok=True)
        if force or not home.fleet_path.exists():
            home.write_fleet(fleet)
        # npu-smi has to answer at once: it needs no site-packages (`-S`), and `-m` would take a while to find it.
        start = "import sys; from emulator.npu_smi import main; sys.exit(main(sys.argv[1:]))"
        _write_launcher(home, "npu-smi", ["-P", "-S", "-c", start])
        _write_launcher(home, "atc", ["-P", "-m", "emulator.atc"])
        (home.root / "python" / "aclruntime.py").write_text(_module_text(), "utf-8")
        _write_distribution(home.root / "python")
        _write_toolkit(home, home.fleet().toolkit_version)
    except OSError as error:
        raise FleetFileError(f"cannot write the emulator's home {home.root}: {error}") from error
    return home


def _write_launcher(home: Home, name: str, arguments: list[str]) -> None:
    path = home.root / "bin" / name
    temporary = path.with_name(f".{name}.new")
    temporary.write_text(
        "#!/bin/sh\n"
        f"# Emulated {name}, written by `python -m emulator install`.\n"
        f"export {ENVIRONMENT_VARIABLE}={shlex.quote(str(home.root))}\n"
        f"export PYTHONPATH={shlex.quote(str(CHECKOUT))}\n"
        f'exec {shlex.join([sys.executable, *arguments])} "$@"\n',
        "utf-8",
    )
    temporary.chmod(0o755)
    temporary.replace(path)


def _module_text() -> str:
    return f'''"""Emulated aclruntime, written by `python -m emulator install`."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

os.environ["{ENVIRONMENT_VARIABLE}"] = str(Path(__file__).resolve().parent.parent)
if find_spec("emulator") is None:
    sys.path.append({str(CHECKOUT)!r})

from emulator.aclruntime import *  # noqa: E402, F403
'''


def _write_distribution(folder: Path) -> None:
    """Say which wheel the module comes from: programs ask for its version before they import it."""
    metadata = folder / f"aclruntime-{ACLRUNTIME_VERSION}.dist-info" / "METADATA"
    metadata.parent.mkdir(exist_ok=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: aclruntime\nVersion: {ACLRUNTIME_VERSION}\n", "utf-8")


def _write_toolkit(home: Home, version: str) -> None:
    architecture = platform.machine()
    toolkit = home.root / "toolkit"
    install_info = toolkit / f"{architecture}-linux" / "ascend_toolkit_install.info"
    compiler_info = toolkit / "compiler" / "version.info"
    for path in (install_info, compiler_info):
        path.parent.mkdir(parents=True, exist_ok=True)
    install_info.write_text(
        f"package_name=Ascend-cann-toolkit\nversion={version}\narch={architecture}\nos=linux\npath={toolkit}\n", "utf-8"
    )
    compiler_info.write_text(f"Version={version}\n", "utf-8")
