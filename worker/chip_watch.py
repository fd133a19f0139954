"""What `npu-smi` says about one chip, as the steps want to know it. Pure but for the ids of our own processes."""

import os

import psutil

from npuq.specs import id_component
from tasks.idleness import ChipState
from tasks.steps import DeviceRef
from worker.npu_smi import NpuSmiInfo, Process

_NAME_CHARACTERS = 15


def chip_state(info: NpuSmiInfo, device: DeviceRef) -> ChipState:
    """Return the state of a chip; `health` is None when the table does not have it."""
    place = (device.npu_id, device.chip_id)
    chip = next((chip for chip in info.chips if (chip.npu_id, chip.chip_id) == place), None)
    if chip is None:
        return ChipState(health=None)
    here = [each for each in info.processes if each.npu_id == place[0] and each.chip_id in (None, place[1])]
    used = chip.hbm_used_mb if chip.hbm_total_mb else chip.memory_used_mb
    return ChipState(
        health=chip.health,
        foreign_processes=tuple(f"{id_component(each.name)} (pid {each.pid})" for each in here if not is_ours(each)),
        processes_visible=bool(info.processes or info.no_process_npus),
        memory_used_mib=used,
        temperature_celsius=chip.temp_c,
        power_watts=chip.power_w,
    )


def is_ours(process: Process) -> bool:
    """Return whether a row of the process table is this process or its kin.

    In a container the table may hold the host's number of our process, which means nothing here; a number that does
    not exist in this namespace, under our own name, is then taken for us.
    """
    ours = psutil.Process()
    own = {ours.pid, os.getppid(), *(child.pid for child in ours.children(recursive=True))}
    if process.pid in own or process.container_pid in own:
        return True
    return process.name == ours.name()[:_NAME_CHARACTERS] and not psutil.pid_exists(process.pid)
