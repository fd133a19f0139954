"""Why a job or a run stands where it stands, in sentences. Pure, over records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cli.fleet_fit import absent_cann, absent_chips
from cli.ids import SHORT_JOB
from cli.views import counts_in_words
from cli.words import ago, counted, duration
from db.records import AttemptRecord, DeviceRecord, JobRecord, RunRecord
from npuq.errors import Blame, DatasetError
from npuq.states import DEVICE_KIND_OF_JOB, DeviceKind, DeviceState, JobState, RunState
from scheduler.cards import why_card_waits
from scheduler.pins import why_pin_waits

_BLAME_WORDS: Mapping[Blame, str] = {
    Blame.INPUT: "what was submitted",
    Blame.DEVICE: "the chip",
    Blame.HOST: "the host",
    Blame.FLEET: "the fleet's services",
}
SHOWN_JOBS = 5


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What explains a job.

    Attributes:
        parents: the jobs whose outputs it takes.
        attempts: its tries, first to last.
        devices: the fleet.
        led: a scheduler leads.
        now: the moment.
    """

    parents: Sequence[JobRecord]
    attempts: Sequence[AttemptRecord]
    devices: Sequence[DeviceRecord]
    led: bool
    now: datetime


def explain_job(job: JobRecord, around: Circumstances) -> list[str]:
    """Return the sentences for a job, the most important first."""
    first = f"{job.label} is {job.state}"
    again = f"try again with: npuq retry {job.job_id[:SHORT_JOB]}"
    match job.state:
        case JobState.WAITING:
            sentences = [
                *_explain_waiting(first, job, around),
                *absent_chips([job.soc_version], around.devices),
                *absent_cann([job.params.get("cann")], around.devices),
            ]
        case JobState.QUEUED:
            sentences = _explain_queued(first, job, around)
        case JobState.DISPATCHED | JobState.RUNNING:
            sentences = [_explain_active(first, job, around)]
        case JobState.SUCCEEDED:
            reused = f": it reused the outputs of the equal job {job.reused_from}" if job.reused_from else ""
            if job.accompanies:
                reused = f": it measured its chip for job {job.lead_id}, which has the card's result"
            sentences = [f"{first}{reused}"]
        case JobState.SKIPPED:
            sentences = [f"{first}: {job.reason or 'an input will not come'}", "try again with: npuq retry RUN"]
        case JobState.CANCELLED:
            sentences = [f"{first}: a person said so", again]
        case JobState.FAILED | JobState.HELD:
            stale = job.error is not None and job.error.code == DatasetError.code and job.error.blame is Blame.INPUT
            # A run keeps the content of the dataset that it was planned with: no further try gets another one.
            sentences = [*_explain_failure(first, job, around), *([] if stale else [again])]
    return sentences


def _explain_active(first: str, job: JobRecord, around: Circumstances) -> str:
    if job.state is JobState.RUNNING:
        ending = "; it was cancelled and is ending" if job.cancel_requested else ""
        return f"{first} on {job.device_id}, begun {ago(job.started_at, around.now)} (try {job.attempt}){ending}"
    last = around.attempts[-1] if around.attempts else None
    sent = f" {ago(last.created_at, around.now)}, sent {counted(last.publishes, 'time')}" if last else ""
    return f"{first}: given to {job.device_id}{sent}; its worker has not begun yet"


def _explain_waiting(first: str, job: JobRecord, around: Circumstances) -> list[str]:
    missing = [parent for parent in around.parents if parent.state is not JobState.SUCCEEDED]
    if not missing:  # only then has the scheduler a reason of its own not to queue it
        why = job.reason or "every input is there; the scheduler queues it next"
        return [f"{first}: {why}", *_no_leader(around)]
    shown = ", ".join(f"{parent.label} ({parent.state})" for parent in missing[:SHOWN_JOBS])
    more = f" and {len(missing) - SHOWN_JOBS} more" if len(missing) > SHOWN_JOBS else ""
    return [f"{first} for {shown}{more}", *_no_leader(around)]


def _explain_queued(first: str, job: JobRecord, around: Circumstances) -> list[str]:
    sentences = [f"{first}: {job.reason}" if job.reason else f"{first}: it waits for a device"]
    sentences += _no_leader(around)
    if job.not_before is not None and job.not_before > around.now:
        sentences.append(f"it is not tried again for {duration((job.not_before - around.now).total_seconds())}")
    if job.accompanies:
        return [
            *sentences,
            f"it runs on another chip of the card at the same time as job {job.lead_id}, and ends with it",
        ]
    if job.pinned_device is not None:
        return [*sentences, why_pin_waits(job.pinned_device, around.devices)]
    kind = DEVICE_KIND_OF_JOB[job.kind]
    of_kind = [device for device in around.devices if device.kind is kind]
    what = "chip" if kind is DeviceKind.NPU else "host slot"
    if job.soc_version is not None and kind is DeviceKind.NPU:
        of_kind = [device for device in of_kind if device.soc_version == job.soc_version]
        what = job.soc_version
    usable = [device for device in of_kind if device.host not in job.refused_hosts]
    if not of_kind:
        sentences.append(f"the fleet has no {what}")
    elif not usable:
        sentences.append(f"every host with a {what} refused it: {', '.join(job.refused_hosts)}")
    else:
        sentences.append(f"{what}: {_device_states(usable)}")
    if job.leads:
        sentences += why_card_waits(around.devices, job.soc_version, int(job.params["chips"]))
    return sentences


def _device_states(devices: Sequence[DeviceRecord]) -> str:
    counts: dict[DeviceState, int] = {}
    for device in devices:
        counts[device.state] = counts.get(device.state, 0) + 1
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _no_leader(around: Circumstances) -> list[str]:
    return [] if around.led else ["no scheduler leads, so nothing moves; start one with: npuq up, or npuq scheduler"]


def _explain_failure(first: str, job: JobRecord, around: Circumstances) -> list[str]:
    sentences = [first]
    if job.error is not None:
        sentences = [f"{first}: {job.error.message}", f"to blame: {_BLAME_WORDS[job.error.blame]} ({job.error.code})"]
        sentences += [f"  | {line}" for line in job.error.detail.rstrip().splitlines()[-SHOWN_JOBS * 4 :]]
    tries = [
        f"try {attempt.number} on {attempt.device_id}: {attempt.state}"
        + (f" ({attempt.error_code})" if attempt.error_code else "")
        for attempt in around.attempts
    ]
    return [*sentences, *tries, f"its log: npuq logs {job.job_id[:SHORT_JOB]}"]


def explain_run(run: RunRecord, *, led: bool) -> list[str]:
    """Return the sentences for a run; its jobs are explained one by one."""
    sentences = [f"run {run.run_id} ({run.name}) is {run.state}{f': {run.reason}' if run.reason else ''}"]
    if run.jobs:
        sentences.append(counts_in_words(run.jobs))
    if not led and run.state in {RunState.SUBMITTED, RunState.ACTIVE}:
        sentences.append("no scheduler leads, so nothing moves; start one with: npuq up, or npuq scheduler")
    return sentences
