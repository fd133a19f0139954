"""The child processes of a worker: one kept per chip, or a fresh one per host job."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import psutil

from db.records import Assignment, DeviceRecord
from npuq.config import Settings
from npuq.errors import DeviceError
from tasks.atc_environment import compile_processes, slot_environment
from tasks.steps import DeviceRef
from worker.child import Child, ChildConfig, EndResult
from worker.chip_watch import chip_state
from worker.locks import DeviceLock, lock_folder
from worker.npu_smi import NpuSmiInfo
from worker.npu_smi_tool import NpuSmi
from worker.workspace import device_ref

END_SECONDS: Final = 5.0
SETTLE_PROBE_SECONDS: Final = 0.5
_USABLE: Final = frozenset({"OK", "Warning"})


class KeptChild:
    """The device process of one chip: started early, kept between jobs, replaced when it is gone."""

    def __init__(self, settings: Settings, lock: DeviceLock, device: DeviceRecord, feeders: int) -> None:
        self._settings = settings
        self._lock = lock
        self._feeders = feeders
        self._device = _chip(device)
        self._config = _config(settings, device, lock, feeders, device.device_id)
        self._suspect = False
        self._npu_smi = NpuSmi(
            lock_path=_npu_smi_lock(settings, device),
            timeout_seconds=settings.timing.tool_timeout_seconds,
            cache_seconds=0.0,
        )
        self._child: Child | None = None

    def __call__(self, assignment: Assignment | None = None) -> Child:
        """Return the living child, starting one if there is none.

        Raises:
            DeviceError: a process of the last child survives KILL, or the chip did not come out of the end of its last
                process in good order.
            NpuSmiError: nobody can say whether it did.
            ChildLostError: no process can be started.
        """
        if assignment is not None:
            self._follow(assignment.device)
        if self._child is not None and not self._child.alive:
            self._suspect = True
            self.end()
        if self._suspect:
            self._wait_until_sound()
            self._suspect = False
        if self._child is None:
            self._child = Child(self._config)
            self._child.start()
        return self._child

    def end(self) -> None:
        """End the child and everything it started; raises DeviceError when something of it survives KILL."""
        if self._child is None:
            return
        if self._child.end(END_SECONDS) is EndResult.UNKILLABLE:
            raise DeviceError(
                f"a process of the last job on {self._device.device_id} survives KILL, it hangs in the driver; reset "
                "the chip or reboot the host",
                code="unkillable",
            )
        self._child = None

    def _follow(self, device: DeviceRecord) -> None:
        """Address the chip as it is registered now: a reset or another driver may have numbered it anew."""
        if _chip(device) != self._device:
            self.end()
            self._device = _chip(device)
            self._config = _config(self._settings, device, self._lock, self._feeders, device.device_id)

    def _wait_until_sound(self) -> None:
        """Look at the chip after its process ended out of turn; the driver may need a moment to let go."""
        deadline = time.monotonic() + self._settings.timing.kill_wait_seconds
        while True:
            trouble = trouble_after_end(self._npu_smi.info(), self._device)
            if trouble is None:
                return
            if time.monotonic() > deadline:
                raise DeviceError(
                    f"{self._device.device_id} is not fit for its next job: {trouble}. Look at it with npu-smi, and "
                    "reset it if that stays so",
                    code="device_dirty",
                )
            time.sleep(SETTLE_PROBE_SECONDS)  # npu-smi can only be asked again


def trouble_after_end(info: NpuSmiInfo, device: DeviceRef) -> str | None:
    """Return what speaks against using a chip whose last process has ended, or None. Pure but for living pids."""
    state = chip_state(info, device)
    if state.health is None:
        return "npu-smi no longer shows it"
    if state.health not in _USABLE:
        return f"its health is {state.health}"
    dead = [
        process.pid
        for process in info.processes
        if process.npu_id == device.npu_id
        and process.chip_id in (None, device.chip_id)
        and process.container_pid is None
        and not psutil.pid_exists(process.pid)
    ]
    return f"the driver still lists the ended process {dead[0]}" if dead else None


def _chip(device: DeviceRecord) -> DeviceRef:
    reference = device_ref(device)
    if reference is None:
        raise ValueError(f"{device.device_id} is no chip")
    return reference


class FreshChildren:
    """One child per attempt, for host work: nothing of torch or ATC stays in memory.

    Each of the `slots` attempts that may run at once has its share of the host's cores and memory.
    """

    def __init__(self, settings: Settings, lock: DeviceLock, slots: int) -> None:
        self._settings = settings
        self._lock = lock
        processes = compile_processes(
            cores=os.cpu_count() or 1, memory_bytes=psutil.virtual_memory().total, slots=max(1, slots)
        )
        self._environment = slot_environment(os.environ, processes)

    def __call__(self, assignment: Assignment) -> Child:
        """Return a started child; raises ChildLostError when no process can be started."""
        name = f"{assignment.device.device_id}/{assignment.job_id[:12]}"
        config = _config(self._settings, assignment.device, self._lock, 0, name)
        child = Child(replace(config, env=self._environment))
        child.start()
        return child


def _npu_smi_lock(settings: Settings, device: DeviceRecord) -> Path:
    return lock_folder(settings.home, emulated=device.emulated) / "npu-smi.lock"


def _config(settings: Settings, device: DeviceRecord, lock: DeviceLock, feeders: int, name: str) -> ChildConfig:
    return ChildConfig(
        name=name,
        device=device_ref(device),
        lock_fd=lock.descriptor,
        env=os.environ,
        feeders=feeders,
        sample_cache=settings.home / "cache" / "samples",
        sample_cache_bytes=settings.sample_cache_bytes,
        tool_timeout_seconds=settings.timing.tool_timeout_seconds,
        npu_smi_lock=_npu_smi_lock(settings, device),
    )
