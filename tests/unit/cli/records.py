"""Records for pure functions, without a database."""

from datetime import UTC, datetime
from typing import Any

from db.records import AttemptRecord, DeviceRecord, JobRecord, ResultRecord, RunRecord
from npuq.states import AttemptState, DeviceKind, DeviceState, JobKind, JobState, Quality, RunState, Scope

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def job_record(**changes: Any) -> JobRecord:
    """Return a waiting infer job of 100 samples."""
    values: dict[str, Any] = dict.fromkeys(JobRecord.__dataclass_fields__)
    values |= {
        "job_id": "a" * 32,
        "run_id": "r1",
        "label": "infer 1/1",
        "kind": JobKind.INFER,
        "recipe": "mobilenet_v1",
        "params": {"batch_size": 4, "precision": "fp16", "start": 0, "stop": 100},
        "state": JobState.WAITING,
        "attempt": 0,
        "avoid_devices": (),
        "refused_hosts": (),
        "reason": "",
        "cancel_requested": False,
        "outputs": {},
        "facts": {},
        "created_at": NOW,
    }
    return JobRecord(**(values | changes))


def attempt_record(**changes: Any) -> AttemptRecord:
    """Return the first, dispatched attempt of a job."""
    values: dict[str, Any] = dict.fromkeys(AttemptRecord.__dataclass_fields__)
    values |= {
        "job_id": "a" * 32,
        "number": 1,
        "device_id": "h1.npu0.0",
        "state": AttemptState.DISPATCHED,
        "beats": 0,
        "publishes": 2,
        "created_at": NOW,
    }
    return AttemptRecord(**(values | changes))


def device_record(**changes: Any) -> DeviceRecord:
    """Return an emulated chip that is online."""
    values: dict[str, Any] = dict.fromkeys(DeviceRecord.__dataclass_fields__)
    values |= {
        "device_id": "h1.npu0.0",
        "host": "h1",
        "kind": DeviceKind.NPU,
        "name": "310P3",
        "soc_version": "Ascend310P3",
        "emulated": True,
        "health": "OK",
        "state": DeviceState.ONLINE,
        "state_reason": "",
        "loaded": (),
        "seen_at": NOW,
    }
    return DeviceRecord(**(values | changes))


def run_record(**changes: Any) -> RunRecord:
    """Return an active run."""
    values: dict[str, Any] = {
        "run_id": "r1",
        "name": "sweep",
        "recipe": "mobilenet_v1",
        "state": RunState.ACTIVE,
        "reason": "",
        "submitter": "tester",
        "spec": {},
        "cancel_requested": False,
        "submitted_at": NOW,
        "created_at": NOW,
        "finished_at": None,
    }
    return RunRecord(**(values | changes))


def result_record(**changes: Any) -> ResultRecord:
    """Return a clean throughput of 100 fps at batch size 1 on an emulated chip."""
    values: dict[str, Any] = dict.fromkeys(ResultRecord.__dataclass_fields__)
    values |= {
        "result_id": "0" * 32,
        "kind": "performance",
        "recipe": "mobilenet_v1",
        "soc_version": "Ascend310P3",
        "emulated": True,
        "batch_size": 1,
        "precision": "fp16",
        "quality": Quality.CLEAN,
        "created_at": NOW,
        "facts": {},
        "metrics": {"throughput_fps": 100.0},
        "units": {"throughput_fps": "fps"},
        "scope": Scope.CHIP,
    }
    return ResultRecord(**(values | changes))
