"""What a host is and has: its id, its toolchain, its chips by `npu-smi`, and its slots for host work."""

import os
import platform
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from db.records import NewDevice
from npuq import __version__
from npuq.config import Settings
from npuq.specs import id_component
from npuq.states import DeviceKind
from tasks import cann
from worker.npu_smi import Chip, NpuSmiInfo, NpuSmiMap, soc_version
from worker.npu_smi_tool import NpuSmi

SLOT_MEMORY_BYTES: Final = 8 * 2**30
"""What one conversion may take (docs: one data point, an OOM kill at 7.6 GiB)."""
MAX_TOOLCHAINS_CHARACTERS: Final = 100
EMULATOR_VARIABLE: Final = "NPUQ_EMULATOR_HOME"


def host_id(settings: Settings) -> str:
    """Return this host's name in the fleet."""
    return id_component(settings.host_name or socket.gethostname())


def is_emulated(environment: Mapping[str, str]) -> bool:
    """Tell whether the `npu-smi` that would be run is the emulator's."""
    home = environment.get(EMULATOR_VARIABLE)
    found = shutil.which("npu-smi", path=environment.get("PATH"))
    return bool(home and found) and Path(str(found)).resolve().is_relative_to(Path(str(home)).resolve())


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
        "npuq_version": __version__,
        "python_version": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "toolchain": toolchain(os.environ),
        "driver_version": None if info is None else info.driver_version,
        "npu_smi_version": None if info is None else info.tool_version,
        "emulated": is_emulated(os.environ),
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
            emulated=is_emulated(os.environ),
            toolchain=toolchains(os.environ),
        )
        for number in range(slot_count(settings))
    ]


def chips(settings: Settings, npu_smi: NpuSmi) -> tuple[list[NewDevice], NpuSmiInfo]:
    """Return this host's chips, and the table they were read from.

    Raises:
        ToolMissingError: there is no `npu-smi`: a host without cards.
        NpuSmiError: the table could not be had: the state of the chips is unknown.
    """
    info = npu_smi.info()
    logic = {} if all(chip.device_id is not None for chip in info.chips) else _logic_ids(npu_smi.map())
    host, emulated, tools = host_id(settings), is_emulated(os.environ), toolchain(os.environ)
    found = [
        _as_device(chip, logic.get((chip.npu_id, chip.chip_id), chip.device_id), host, tools, emulated=emulated)
        for chip in info.chips
    ]
    return [device for device in found if device.logic_id is not None], info


def _logic_ids(table: NpuSmiMap) -> dict[tuple[int, int], int]:
    return {(row.npu_id, row.chip_id): row.logic_id for row in table.map}


def _as_device(chip: Chip, logic_id: int | None, host: str, tools: str, *, emulated: bool) -> NewDevice:
    place = f"{chip.npu_id}/{chip.chip_id}"
    return NewDevice(
        device_id=f"{host}.npu{chip.npu_id}.{chip.chip_id}",
        kind=DeviceKind.NPU,
        identity=f"{host}/{chip.bus_id or chip.npu_id}/{chip.chip_id}" if chip.bus_id else f"{host}/{place}",
        name=chip.name,
        health=chip.health or "",
        emulated=emulated,
        toolchain=tools,
        npu_id=chip.npu_id,
        chip_id=chip.chip_id,
        logic_id=logic_id,
        soc_version=soc_version(chip.name),
        memory_total_mib=chip.hbm_total_mb or chip.memory_total_mb,
    )
