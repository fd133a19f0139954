"""Values of the scheduler's snapshots, for its pure parts."""

from datetime import UTC, datetime
from typing import Any

from db.records import ActiveAttempt, DatasetRecord, DeviceRecord, JobRecord
from npuq.states import AttemptState, DeviceKind, DeviceState, JobKind, JobState
from tests.services.world import SOC, TOOLCHAIN

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def device(device_id: str = "h1.npu0.0", **changes: Any) -> DeviceRecord:
    """Return an online, healthy chip."""
    values: dict[str, Any] = {
        "device_id": device_id,
        "host": device_id.split(".", maxsplit=1)[0],
        "kind": DeviceKind.NPU,
        "identity": device_id,
        "npu_id": 0,
        "chip_id": 0,
        "logic_id": 0,
        "name": "310P3",
        "soc_version": SOC,
        "toolchain": TOOLCHAIN,
        "emulated": True,
        "health": "OK",
        "state": DeviceState.ONLINE,
        "state_reason": "",
        "state_at": NOW,
        "memory_total_mib": 21_527,
        "memory_baseline_mib": None,
        "loaded": (),
        "restart_asked_at": None,
        "seen_at": NOW,
    }
    return DeviceRecord(**(values | changes))


def host_slot(device_id: str = "h1.host.0", **changes: Any) -> DeviceRecord:
    """Return an online host slot."""
    return device(device_id, kind=DeviceKind.HOST, logic_id=None, soc_version=None, **changes)


def job(job_id: str, kind: JobKind = JobKind.INFER, **changes: Any) -> JobRecord:
    """Return a queued job."""
    values: dict[str, Any] = {
        "job_id": job_id,
        "run_id": "run",
        "ordinal": 0,
        "label": job_id,
        "kind": kind,
        "recipe": "mobilenet_v1",
        "recipe_version": 1,
        "params": {},
        "inputs": {},
        "soc_version": SOC if kind in {JobKind.INFER, JobKind.BENCHMARK} else None,
        "toolchain": None,
        "content_key": None,
        "fresh": False,
        "priority": 0,
        "state": JobState.QUEUED,
        "attempt": 0,
        "max_attempts": 3,
        "failures": 0,
        "losses": 0,
        "not_before": None,
        "avoid_devices": (),
        "refused_hosts": (),
        "cancel_requested": False,
        "device_id": None,
        "reason": "",
        "outputs": {},
        "facts": {},
        "reused_from": None,
        "error": None,
        "created_at": NOW,
        "queued_at": NOW,
        "started_at": None,
        "finished_at": None,
    }
    return JobRecord(**(values | changes))


def attempt(job_id: str, device_id: str = "h1.npu0.0", **changes: Any) -> ActiveAttempt:
    """Return a running attempt with a good lease."""
    values: dict[str, Any] = {
        "job_id": job_id,
        "number": 1,
        "run_id": "run",
        "kind": JobKind.INFER,
        "device_id": device_id,
        "state": AttemptState.RUNNING,
        "beats": 1,
        "publishes": 1,
        "unanswered_seconds": 1.0,
        "lease_over": False,
        "age_seconds": 1.0,
        "cancel_requested": False,
    }
    return ActiveAttempt(**(values | changes))


def dataset(**changes: Any) -> DatasetRecord:
    """Return a registered dataset."""
    values: dict[str, Any] = {
        "name": "small",
        "format": "imagenet",
        "root": "/data",
        "digest": "5" * 64,
        "samples": 200,
        "added_at": NOW,
    }
    return DatasetRecord(**(values | changes))
