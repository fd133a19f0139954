"""The states of jobs, attempts, runs and devices, and which moves between them are legal.

Every state says what it means, who moves it on and how long it stays. The table of legal moves is data: the database
refuses every other move with a trigger that is generated from the same table (see `db/migrations`), and a test holds
the two against each other.
"""

from enum import StrEnum


class JobKind(StrEnum):
    """One step of a run."""

    EXPORT = "export"  #: checkpoint -> ONNX, on a host slot
    CONVERT = "convert"  #: ONNX -> OM with ATC, on a host slot
    INFER = "infer"  #: one shard of a dataset through one chip -> predictions
    EVALUATE = "evaluate"  #: the predictions of all shards -> accuracy, on a host slot
    BENCHMARK = "benchmark"  #: throughput and latency of one OM on one exclusive, idle chip


class JobState(StrEnum):
    """Where a job stands. Final states are those in `FINAL_JOB_STATES`."""

    WAITING = "waiting"
    """Its inputs are not produced yet. The scheduler moves it on when the last input is there (computed, never
    counted)."""
    QUEUED = "queued"
    """It could run and is not given to a device. The scheduler picks one; how long depends on the fleet."""
    DISPATCHED = "dispatched"
    """Given to a device and announced by a message, which is sent again until the worker claims it or the scheduler
    withdraws it. Seconds, or the length of the job before it on the same device."""
    RUNNING = "running"
    """Claimed by a worker that holds an owner token and a lease. As long as the work takes."""
    SUCCEEDED = "succeeded"
    """Outputs and results are committed, were reused from an equal job, or are those of the job that it accompanied on
    another chip of the card. For ever."""
    FAILED = "failed"
    """It will not be tried again by itself; the error is kept. Until a person retries it."""
    CANCELLED = "cancelled"
    """A person said so. Until a person retries it."""
    SKIPPED = "skipped"
    """An input's job failed, was cancelled or is held. Until a person retries the run."""
    HELD = "held"
    """It took its worker down too often, or its input is corrupt. Only a person releases it."""


FINAL_JOB_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED, JobState.HELD})
ACTIVE_JOB_STATES = frozenset({JobState.DISPATCHED, JobState.RUNNING})

#: (from, to): who makes the move, in which case. Every pair that is not here is refused by the database.
JOB_MOVES: dict[tuple[JobState, JobState], str] = {
    (JobState.WAITING, JobState.QUEUED): "scheduler: every input is there",
    (JobState.WAITING, JobState.SUCCEEDED): "scheduler: an equal job already succeeded, its outputs are reused",
    (JobState.WAITING, JobState.SKIPPED): "scheduler: an input will not come",
    (JobState.WAITING, JobState.FAILED): "scheduler: the job cannot be prepared (for example an unknown toolchain)",
    (JobState.WAITING, JobState.CANCELLED): "person, or the cancelled run",
    (JobState.QUEUED, JobState.DISPATCHED): "scheduler: a device was picked, the attempt number rises by one",
    (JobState.QUEUED, JobState.SUCCEEDED): "scheduler: the job that it accompanied on another chip succeeded",
    (JobState.QUEUED, JobState.FAILED): "scheduler: every host that could run it refused it",
    (JobState.QUEUED, JobState.CANCELLED): "person, or the cancelled run",
    (JobState.DISPATCHED, JobState.RUNNING): "worker: claimed the attempt",
    (JobState.DISPATCHED, JobState.QUEUED): "scheduler: withdrawn (device gone, better place, sends unanswered)",
    (JobState.DISPATCHED, JobState.CANCELLED): "person, or the cancelled run",
    (JobState.RUNNING, JobState.SUCCEEDED): "worker: outputs and results in the same transaction",
    (JobState.RUNNING, JobState.QUEUED): "worker: another try or handed back; scheduler: the attempt is lost",
    (JobState.RUNNING, JobState.FAILED): "worker: not worth another try",
    (JobState.RUNNING, JobState.CANCELLED): "worker: the child is gone; scheduler: the cancelled attempt is lost",
    (JobState.RUNNING, JobState.HELD): "worker or scheduler: too many infrastructure losses, or a corrupt input",
    (JobState.FAILED, JobState.WAITING): "person: retry",
    (JobState.CANCELLED, JobState.WAITING): "person: retry",
    (JobState.SKIPPED, JobState.WAITING): "person: retry of the run",
    (JobState.HELD, JobState.WAITING): "person: retry",
}


class AttemptState(StrEnum):
    """Where one try of a job stands."""

    DISPATCHED = "dispatched"  #: sent to a device, not claimed
    RUNNING = "running"  #: claimed: owner, lease, beats
    SUCCEEDED = "succeeded"  #: committed outputs and results
    FAILED = "failed"  #: ended with an error of its own
    CANCELLED = "cancelled"  #: ended because a person said so
    LOST = "lost"  #: its worker or device went away
    RELEASED = "released"  #: handed back unharmed by a draining worker
    WITHDRAWN = "withdrawn"  #: taken back before anybody claimed it


ACTIVE_ATTEMPT_STATES = frozenset({AttemptState.DISPATCHED, AttemptState.RUNNING})

ATTEMPT_MOVES: frozenset[tuple[AttemptState, AttemptState]] = frozenset(
    {
        (AttemptState.DISPATCHED, AttemptState.RUNNING),
        (AttemptState.DISPATCHED, AttemptState.WITHDRAWN),
        (AttemptState.DISPATCHED, AttemptState.CANCELLED),
        (AttemptState.RUNNING, AttemptState.SUCCEEDED),
        (AttemptState.RUNNING, AttemptState.FAILED),
        (AttemptState.RUNNING, AttemptState.CANCELLED),
        (AttemptState.RUNNING, AttemptState.LOST),
        (AttemptState.RUNNING, AttemptState.RELEASED),
    }
)


class RunState(StrEnum):
    """Where a run stands; derived from its jobs once it is planned."""

    SUBMITTED = "submitted"  #: accepted, not expanded to jobs yet; the scheduler plans it
    ACTIVE = "active"  #: at least one job is not final
    SUCCEEDED = "succeeded"  #: every job succeeded
    FAILED = "failed"  #: at least one job failed or is held, or the run could not be planned
    CANCELLED = "cancelled"  #: ended by a person, nothing failed


FINAL_RUN_STATES = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})


class DeviceKind(StrEnum):
    """What runs on a device."""

    NPU = "npu"  #: one chip: infer, benchmark
    HOST = "host"  #: one slot of a host worker: export, convert, evaluate


class DeviceState(StrEnum):
    """Whether a device may be given work. `busy`, and `lost` for a silent host, are derived when they are shown."""

    ONLINE = "online"  #: may be given work; its launcher or a person moves it elsewhere
    BUSY = "busy"  #: online, and an attempt runs on it
    DRAINING = "draining"  #: finishes what it has, gets nothing new; a person resumes it, or its host's return
    QUARANTINED = "quarantined"  #: sick, with a reason; a person resumes it
    LOST = "lost"  #: not seen by its host, or its host is silent; comes back by itself


class DeviceCause(StrEnum):
    """Why a device is in the state it is in; what people read is the reason beside it."""

    FOUND = "found"  #: seen for the first time
    RETURNED = "returned"  #: what was wrong is over
    PERSON = "person"  #: a person said so, and only a person takes it back
    HOST_STOPPED = "host_stopped"  #: its launcher ends in good order, or has
    VANISHED = "vanished"  #: npu-smi has a table, and the chip is not in it
    NO_ANSWER = "no_answer"  #: npu-smi gives no table: unknown, neither well nor sick
    ALARM = "alarm"  #: health is Alarm
    CRITICAL = "critical"  #: health is Critical
    UNKNOWN_HEALTH = "unknown_health"  #: health is UNKNOWN, or a word that npuq does not know
    DIRTY = "dirty"  #: memory is held and no process holds it
    ERRORS = "errors"  #: jobs failed on it too often, and the chip is to blame
    UNKILLABLE = "unkillable"  #: a process of its job survives KILL
    REPEATED = "repeated"  #: the same trouble came back three times in 24 hours


HEALING_CAUSES = frozenset(
    {
        DeviceCause.VANISHED,
        DeviceCause.NO_ANSWER,
        DeviceCause.ALARM,
        DeviceCause.CRITICAL,
        DeviceCause.UNKNOWN_HEALTH,
        DeviceCause.DIRTY,
    }
)
"""Causes that good looks at the chip take back; every other needs a person, or the launcher's return."""

#: Which kind of device runs which kind of job.
DEVICE_KIND_OF_JOB: dict[JobKind, DeviceKind] = {
    JobKind.EXPORT: DeviceKind.HOST,
    JobKind.CONVERT: DeviceKind.HOST,
    JobKind.INFER: DeviceKind.NPU,
    JobKind.EVALUATE: DeviceKind.HOST,
    JobKind.BENCHMARK: DeviceKind.NPU,
}


class Quality(StrEnum):
    """How far a result may be trusted."""

    CLEAN = "clean"  #: measured as intended
    UNSTABLE = "unstable"  #: the interval of the median stayed too wide
    CONTAMINATED = "contaminated"  #: something disturbed the measurement; kept, never used


class Scope(StrEnum):
    """What a throughput is the number of. As a wish, `card` means both: one is never computed from the other."""

    CHIP = "chip"  #: one chip
    CARD = "card"  #: all chips of a card at once
