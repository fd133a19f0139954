"""The JSON forms of records, schema 1: other programs build on them. Fields may be added, never changed. Pure."""

from typing import Any

from cli.words import iso
from db.records import AttemptRecord, DatasetRecord, DeviceRecord, JobRecord, NewJob, ResultRecord, RunRecord


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


def planned_job_document(job: NewJob) -> dict[str, Any]:
    """Return the JSON form of a job that is only planned."""
    return {
        "label": job.label,
        "kind": job.kind.value,
        "recipe": job.recipe,
        "soc_version": job.soc_version,
        "params": dict(job.params),
        "parents": {role: list(labels) for role, labels in job.parents.items()},
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


def result_document(result: ResultRecord) -> dict[str, Any]:
    """Return the JSON form of a result."""
    return {
        "result_id": result.result_id,
        "run_id": result.run_id,
        "job_id": result.job_id,
        "kind": result.kind,
        "recipe": result.recipe,
        "recipe_version": result.recipe_version,
        "dataset": result.dataset,
        "dataset_digest": result.dataset_digest,
        "samples": result.samples,
        "soc_version": result.soc_version,
        "device_id": result.device_id,
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
        "added_at": iso(dataset.added_at),
    }
