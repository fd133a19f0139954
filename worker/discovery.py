"""What a host is and has: its id, its toolchain, its chips by `npu-smi`, and its slots for host work."""

import hashlib
import os
import platform
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import psutil

from db.records import NewDevice
from npuq import __version__
from npuq.config import Settings
from npuq.log import get_logger
from npuq.specs import id_component
from npuq.states import DeviceKind
from tasks import cann
from worker.chip_identity import FoundChip, assign, die_identity
from worker.emulated_tools import has_emulated_chips, has_emulated_host_tools
from worker.npu_smi import TIMEOUT, UNSUPPORTED, Board, Chip, NpuSmiError, NpuSmiInfo, NpuSmiMap, soc_version
from worker.npu_smi_tool import NpuSmi

SLOT_MEMORY_BYTES: Final = 8 * 2**30
"""What one conversion may take (docs: one data point, an OOM kill at 7.6 GiB)."""
MAX_TOOLCHAINS_CHARACTERS: Final = 100
MAX_HEALTH_CHARACTERS: Final = 16
#: Names of npu-smi that stand for several kinds of chips.
_FAMILY_NAME: Final = re.compile(r"Ascend\d{3}")
#: Differs between machines, not between the containers of one; a new one at every start of the kernel.
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
log = get_logger(__name__)


def host_id(settings: Settings) -> str:
    """Return this host's name in the fleet."""
    return id_component(settings.host_name or socket.gethostname())


def machine_id(boot_id: Path = BOOT_ID) -> str:
    """Return what tells this machine, as long as it is up, from others that may bear its name; "" if nothing does."""
    try:
        return hashlib.sha256(f"npuq {boot_id.read_text('ascii').strip()}".encode()).hexdigest()[:16]
    except OSError:
        return ""


def toolchain(environment: Mapping[str, str]) -> str:
    """Return the fingerprint of this host's default CANN, "" without one."""
    found = cann.toolkits(environment)
    return found[0].fingerprint if found else ""


def toolchains(environment: Mapping[str, str]) -> str:
    """Return the fingerprints of all of this host's CANN versions, the default one first, as the database keeps them.

    Versions that no longer fit into its column are left out: nobody can ask for them.
    """
    text = ""
    for toolkit in cann.toolkits(environment):
        longer = f"{text} {toolkit.fingerprint}".strip()
        if len(longer) > MAX_TOOLCHAINS_CHARACTERS:
            break
        text = longer
    return text


def slot_count(settings: Settings) -> int:
    """Return how many host jobs may run at once: a core and the memory of a conversion each."""
    if settings.host_slots is not None:
        return settings.host_slots
    by_memory = psutil.virtual_memory().total // SLOT_MEMORY_BYTES
    return int(max(1, min(os.cpu_count() or 1, by_memory)))


def host_facts(settings: Settings, info: NpuSmiInfo | None) -> dict[str, Any]:
    """Return what is worth remembering of this host with every result."""
    return {
        "machine": machine_id(),
        "npuq_version": __version__,
        "python_version": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "toolchain": toolchain(os.environ),
        "driver_version": None if info is None else info.driver_version,
        "npu_smi_version": None if info is None else info.tool_version,
        "emulated": has_emulated_chips(os.environ),
        "slots": slot_count(settings),
    }


def slots(settings: Settings) -> list[NewDevice]:
    """Return this host's slots, each a device of kind `host`, so that the same guards hold for host work."""
    host = host_id(settings)
    return [
        NewDevice(
            device_id=f"{host}.host.{number}",
            kind=DeviceKind.HOST,
            identity=f"{host}/slot/{number}",
            name="host slot",
            health="OK",
            emulated=has_emulated_host_tools(os.environ),
            toolchain=toolchains(os.environ),
        )
        for number in range(slot_count(settings))
    ]


class Boards:
    """What `-t board` says of each chip; asked once, because a chip does not change while it keeps its place."""

    def __init__(self, npu_smi: NpuSmi) -> None:
        self._npu_smi = npu_smi
        self._known: dict[tuple[int, int, str | None, str], Board | None] = {}

    def of(self, chip: Chip) -> Board | None:
        """Return the board, None when the card or driver does not tell."""
        key = (chip.npu_id, chip.chip_id, chip.bus_id, chip.name)
        if key not in self._known:
            try:
                self._known[key] = self._npu_smi.board(chip.npu_id, chip.chip_id)
            except NpuSmiError as error:
                if error.info.code != UNSUPPORTED:
                    raise
                self._known[key] = None
        return self._known[key]

    def of_all(self, chips: Sequence[Chip], *, needed: bool) -> list[tuple[Chip, Board | None]]:
        """Return chips with their boards; one sick chip does not take the others with it.

        Args:
            chips: of the table.
            needed: leave out a chip whose board cannot be read now, as under a weaker name it would be another device.

        Raises:
            NpuSmiError: the tool hangs, or no board that is needed can be read.
        """
        found: list[tuple[Chip, Board | None]] = []
        failures: list[NpuSmiError] = []
        for chip in chips:
            try:
                found.append((chip, self.of(chip)))
            except NpuSmiError as error:
                log.warning("board_unread", npu_id=chip.npu_id, chip_id=chip.chip_id, reason=str(error))
                failures.append(error)
                if error.info.code == TIMEOUT:
                    raise
                if not needed:
                    found.append((chip, None))
        if failures and not found:
            raise failures[0]
        return found


def chips(
    settings: Settings, npu_smi: NpuSmi, boards: Boards, known: Mapping[str, str]
) -> tuple[list[NewDevice], NpuSmiInfo]:
    """Return this host's chips, and the table they were read from.

    Args:
        settings: the fleet.
        npu_smi: the tool.
        boards: what is known of the chips' boards.
        known: identity -> device id of the rows of this host.

    Raises:
        ToolMissingError: there is no `npu-smi`: a host without cards.
        NpuSmiError: a table could not be had: the state of the chips is unknown.
    """
    info = npu_smi.info()
    numbers = _Numbers.of(NpuSmiMap(map=(), mcu_rows=0) if _has_logic_ids(info) else npu_smi.map())
    host, emulated, tools = host_id(settings), has_emulated_chips(os.environ), toolchain(os.environ)
    known_by_die = any(identity.startswith(die_identity(host, "")) for identity in known)
    with_boards = boards.of_all(info.chips, needed=known_by_die)
    found = [
        FoundChip(
            npu_id=chip.npu_id,
            chip_id=chip.chip_id,
            bus_id=chip.bus_id,
            die_id=None if board is None else board.die_id,
        )
        for chip, board in with_boards
    ]
    rows = assign(host, found, known)
    devices = [
        _as_device(chip, board, row, numbers, tools, emulated=emulated)
        for (chip, board), row in zip(with_boards, rows, strict=True)
    ]
    return [device for device in devices if device.logic_id is not None], info


def _has_logic_ids(info: NpuSmiInfo) -> bool:
    return all(chip.device_id is not None for chip in info.chips)


@dataclass(frozen=True, kw_only=True)
class _Numbers:
    """(NPU, chip) -> logic id and physical id, from `info -m`."""

    logic: Mapping[tuple[int, int], int]
    physical: Mapping[tuple[int, int], int]

    @classmethod
    def of(cls, table: NpuSmiMap) -> Self:
        return cls(
            logic={(row.npu_id, row.chip_id): row.logic_id for row in table.map},
            physical={(row.npu_id, row.chip_id): row.phy_id for row in table.physical},
        )


def _as_device(
    chip: Chip, board: Board | None, row: tuple[str, str], numbers: _Numbers, tools: str, *, emulated: bool
) -> NewDevice:
    device_id, identity = row
    place = (chip.npu_id, chip.chip_id)
    return NewDevice(
        device_id=device_id,
        kind=DeviceKind.NPU,
        identity=identity,
        name=chip.name,
        health=chip.health[:MAX_HEALTH_CHARACTERS],
        emulated=emulated,
        toolchain=tools,
        npu_id=chip.npu_id,
        chip_id=chip.chip_id,
        logic_id=numbers.logic.get(place, chip.device_id),
        phy_id=numbers.physical.get(place, chip.phy_id),
        soc_version=chip_soc_version(chip, board),
        memory_total_mib=chip.hbm_total_mb or chip.memory_total_mb,
    )


def chip_soc_version(chip: Chip, board: Board | None) -> str:
    """Return what ATC calls a chip; the table's name does not tell it on A3 and 950, whose boards do."""
    told = None if board is None else board.soc_version
    return told if told is not None and _FAMILY_NAME.fullmatch(chip.name) else soc_version(chip.name)
