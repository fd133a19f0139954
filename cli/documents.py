"""The JSON forms of records, schema 1: other programs build on them. Fields may be added, never changed. Pure.

Beside each form are its `..._FIELDS`, the columns of CSV: the same for every record. What has a closed list of keys
(states, metrics, the parameters that every job has) has a column per key; what has not is one column of JSON.
"""

from collections.abc import Sequence
from typing import Any, Final

from cli.words import iso
from db.records import (
    AttemptRecord,
    DatasetRecord,
    DeviceEventRecord,
    DeviceRecord,
    JobRecord,
    NewJob,
    ResultRecord,
    RunRecord,
)
from npuq.states import JobState
from tasks.metrics import METRICS

RUN_FIELDS: Final = (
    *("run_id", "name", "recipe", "state", "reason", "submitter", "cancel_requested"),
    *("submitted_at", "created_at", "finished_at"),
    *(f"jobs.{state.value}" for state in JobState),
)
_PARAMS: Final = ("params.batch_size", "params.precision", "params.start", "params.stop", "params")
JOB_FIELDS: Final = (
    *("job_id", "run_id", "label", "kind", "recipe", "state", "reason", "attempt", "device_id", "reused_from"),
    *("error.code", "error.blame", "error.message", *_PARAMS, "soc_version", "priority"),
    *("created_at", "queued_at", "started_at", "finished_at", "pinned_device", "lead_id"),
)
JOB_DETAIL_FIELDS: Final = (
    *JOB_FIELDS,
    *("error.detail", "content_key", "toolchain", "inputs", "outputs", "facts", "attempts"),
)
PLANNED_JOB_FIELDS: Final = ("label", "kind", "recipe", "soc_version", *_PARAMS, "parents", "reused", "pinned_device")
DEVICE_FIELDS: Final = (
    *("device_id", "host", "kind", "npu_id", "chip_id", "logic_id", "name", "soc_version", "health", "state"),
    *("reason", "emulated", "toolchain", "memory_total_mib", "loaded", "seen_at"),
)
DEVICE_DETAIL_FIELDS: Final = (*DEVICE_FIELDS, "cause", "since", "phy_id", "memory_baseline_mib", "events")
DEVICE_EVENT_FIELDS: Final = ("event_id", "device_id", "at", "state", "cause", "reason")
RESULT_FIELDS: Final = (
    *("result_id", "run_id", "job_id", "kind", "recipe", "recipe_version", "dataset", "dataset_digest", "samples"),
    *("recipe_options", "dataset_samples", "images_digest", "partial"),
    *("soc_version", "device_id", "scope", "emulated", "batch_size", "precision", "quality"),
    *(f"metrics.{name}" for name in METRICS),
    *("units", "toolchain", "om_digest", "created_at"),
)
RESULT_DETAIL_FIELDS: Final = (*RESULT_FIELDS, "attempt", "facts")
DATASET_FIELDS: Final = (
    *("name", "format", "root", "samples", "digest", "size_bytes", "in_store", "folders", "notes", "added_at"),
)


def run_document(run: RunRecord) -> dict[str, Any]:
    """Return the JSON form of a run."""
    return {
        "run_id": run.run_id,
        "name": run.name,
        "recipe": run.recipe,
        "state": run.state.value,
        "reason": run.reason or None,
        "submitter": run.submitter,
        "cancel_requested": run.cancel_requested,
        "submitted_at": iso(run.submitted_at),
        "created_at": iso(run.created_at),
        "finished_at": iso(run.finished_at),
        "jobs": {state.value: count for state, count in run.jobs.items()},
    }


def job_document(job: JobRecord) -> dict[str, Any]:
    """Return the JSON form of a job."""
    error = None
    if job.error is not None:
        error = {"code": job.error.code, "blame": job.error.blame.value, "message": job.error.message}
    return {
        "job_id": job.job_id,
        "run_id": job.run_id,
        "label": job.label,
        "kind": job.kind.value,
        "recipe": job.recipe,
        "state": job.state.value,
        "reason": job.reason or None,
        "attempt": job.attempt,
        "device_id": job.device_id,
        "reused_from": job.reused_from,
        "error": error,
        "params": dict(job.params),
        "soc_version": job.soc_version,
        "priority": job.priority,
        "created_at": iso(job.created_at),
        "queued_at": iso(job.queued_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "pinned_device": job.pinned_device,
        "lead_id": job.lead_id,
    }


def job_detail_document(job: JobRecord, attempts: list[AttemptRecord]) -> dict[str, Any]:
    """Return the JSON form of a job with what `jobs show` adds: outputs, facts, the tool's last lines, attempts."""
    document = job_document(job)
    if job.error is not None and job.error.detail:
        document["error"]["detail"] = job.error.detail
    return document | {
        "content_key": job.content_key,
        "toolchain": job.toolchain,
        "inputs": dict(job.inputs),
        "outputs": dict(job.outputs),
        "facts": dict(job.facts),
        "attempts": [attempt_document(attempt) for attempt in attempts],
    }


def attempt_document(attempt: AttemptRecord) -> dict[str, Any]:
    """Return the JSON form of one try of a job."""
    return {
        "attempt": attempt.number,
        "device_id": attempt.device_id,
        "state": attempt.state.value,
        "started_at": iso(attempt.started_at),
        "finished_at": iso(attempt.finished_at),
        "error_code": attempt.error_code,
        "error_message": attempt.error_message,
    }


def planned_job_document(job: NewJob, reused: frozenset[str]) -> dict[str, Any]:
    """Return the JSON form of a job that is only planned; `reused` holds the labels of work that is there already."""
    return {
        "label": job.label,
        "kind": job.kind.value,
        "recipe": job.recipe,
        "soc_version": job.soc_version,
        "params": dict(job.params),
        "parents": {role: list(labels) for role, labels in job.parents.items()},
        "reused": job.label in reused,
        "pinned_device": job.pinned_device,
    }


def device_document(device: DeviceRecord) -> dict[str, Any]:
    """Return the JSON form of a device."""
    return {
        "device_id": device.device_id,
        "host": device.host,
        "kind": device.kind.value,
        "npu_id": device.npu_id,
        "chip_id": device.chip_id,
        "logic_id": device.logic_id,
        "name": device.name,
        "soc_version": device.soc_version,
        "health": device.health,
        "state": device.state.value,
        "reason": device.state_reason or None,
        "emulated": device.emulated,
        "toolchain": device.toolchain,
        "memory_total_mib": device.memory_total_mib,
        "loaded": list(device.loaded),
        "seen_at": iso(device.seen_at),
    }


def device_event_document(event: DeviceEventRecord) -> dict[str, Any]:
    """Return the JSON form of what happened to a device."""
    return {
        "event_id": event.event_id,
        "device_id": event.device_id,
        "at": iso(event.at),
        "state": event.state.value,
        "cause": event.cause.value,
        "reason": event.reason or None,
    }


def device_detail_document(device: DeviceRecord, events: Sequence[DeviceEventRecord]) -> dict[str, Any]:
    """Return the JSON form of a device with what `devices show` adds: why and since when it is so, its last events."""
    return device_document(device) | {
        "cause": device.state_cause or None,
        "since": iso(device.state_at),
        "phy_id": device.phy_id,
        "memory_baseline_mib": device.memory_baseline_mib,
        "events": [device_event_document(event) for event in events],
    }


def result_document(result: ResultRecord) -> dict[str, Any]:
    """Return the JSON form of a result."""
    return {
        "result_id": result.result_id,
        "run_id": result.run_id,
        "job_id": result.job_id,
        "kind": result.kind,
        "recipe": result.recipe,
        "recipe_version": result.recipe_version,
        "recipe_options": dict(result.recipe_options),
        "dataset": result.dataset,
        "dataset_digest": result.dataset_digest,
        "samples": result.samples,
        "dataset_samples": result.dataset_samples,
        "images_digest": result.images_digest,
        "partial": result.is_partial,
        "soc_version": result.soc_version,
        "device_id": result.device_id,
        "scope": result.scope,
        "emulated": result.emulated,
        "batch_size": result.batch_size,
        "precision": result.precision,
        "quality": result.quality.value,
        "metrics": dict(result.metrics),
        "units": dict(result.units),
        "toolchain": result.toolchain,
        "om_digest": result.om_digest,
        "created_at": iso(result.created_at),
    }


def result_detail_document(result: ResultRecord) -> dict[str, Any]:
    """Return the JSON form of a result with its whole provenance."""
    return result_document(result) | {"attempt": result.attempt, "facts": dict(result.facts)}


def dataset_document(dataset: DatasetRecord) -> dict[str, Any]:
    """Return the JSON form of a dataset."""
    return {
        "name": dataset.name,
        "format": dataset.format,
        "root": dataset.root,
        "samples": dataset.samples,
        "digest": dataset.digest,
        "size_bytes": dataset.size_bytes,
        "in_store": dataset.in_store,
        "folders": dict(dataset.folders),
        "notes": list(dataset.notes),
        "added_at": iso(dataset.added_at),
    }
