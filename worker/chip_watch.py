"""What `npu-smi` says about one chip, as steps and health want to know it. Pure but for ids of our own processes."""

import os

import psutil

from npuq.specs import id_component
from tasks.idleness import ChipState
from tasks.steps import DeviceRef
from worker.health import LEAK_MIB, Look
from worker.npu_smi import Chip, NpuSmiInfo, Process

_NAME_CHARACTERS = 15


def look_at(info: NpuSmiInfo, place: tuple[int | None, int | None]) -> Look:
    """Return a look at the chip with an (NPU id, chip id); `health` is None when the table does not have it."""
    chip = _chip(info, place)
    if chip is None:
        return Look(health=None)
    here = _processes(info, chip)
    return Look(
        health=chip.health,
        unowned_memory_mib=_unowned_memory_mib(chip, here),
        processes=len(here),
        processes_known=info.knows_processes(chip.npu_id),
    )


def _chip(info: NpuSmiInfo, place: tuple[int | None, int | None]) -> Chip | None:
    return next((chip for chip in info.chips if (chip.npu_id, chip.chip_id) == place), None)


def _processes(info: NpuSmiInfo, chip: Chip) -> list[Process]:
    """Return the processes on a chip; where only the card is told, on any chip of the card."""
    return [each for each in info.processes if each.npu_id == chip.npu_id and each.chip_id in (None, chip.chip_id)]


def _used_mib(chip: Chip) -> int | None:
    return chip.hbm_used_mb if chip.hbm_total_mb else chip.memory_used_mb


def _unowned_memory_mib(chip: Chip, here: list[Process]) -> int | None:
    """Return the memory in use less what processes hold; None when one of these is not told."""
    used, held = _used_mib(chip), [each.memory_mb for each in here]
    if used is None or any(memory is None for memory in held):
        return None
    return max(0, used - sum(memory for memory in held if memory is not None))


def _leaked_mib(info: NpuSmiInfo, chip: Chip, baseline_mib: int | None) -> int | None:
    unowned = _unowned_memory_mib(chip, _processes(info, chip))
    if unowned is None or baseline_mib is None or not info.knows_processes(chip.npu_id):
        return None
    return unowned - baseline_mib if unowned > baseline_mib + LEAK_MIB else 0


def chip_state(info: NpuSmiInfo, device: DeviceRef, friends: frozenset[int] = frozenset()) -> ChipState:
    """Return the state of a chip; `health` is None when the table does not have it.

    Processes with one of the ids `friends` are not foreign.
    """
    chip = _chip(info, (device.npu_id, device.chip_id))
    if chip is None:
        return ChipState(health=None)
    here = _processes(info, chip)
    strangers = [each for each in here if not {each.pid, each.container_pid} & friends and not is_ours(each)]
    return ChipState(
        health=chip.health,
        foreign_processes=tuple(f"{id_component(each.name)} (pid {each.pid})" for each in strangers),
        processes_visible=bool(info.processes or info.no_process_npus),
        memory_used_mib=_used_mib(chip),
        leaked_memory_mib=_leaked_mib(info, chip, device.memory_baseline_mib),
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
