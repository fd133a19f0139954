"""How each kind of record looks in a table. Pure; `now` is the moment that relative times are counted from."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from cli import documents
from cli.ids import SHORT_JOB, SHORT_RUN
from cli.output import Column, View, state_style
from cli.words import ago, counted, duration, one_line
from db.records import DatasetRecord, DeviceEventRecord, DeviceRecord, JobRecord, NewJob, ResultRecord, RunRecord
from npuq.states import FINAL_JOB_STATES, JobState, Scope
from tasks.metrics import METRICS

_UNNAMED: Final = "main"  #: the name of the pass of recipes that have one
#: What is shown of an accuracy, where it has no mean average precision.
_ACCURACIES: Final = ("top1", "top5", "AP_easy", "AP_medium", "AP_hard")
_METRIC_HEADERS: Final = {
    "throughput_fps": ("FPS", "{:.1f}"),
    "latency_p50_ms": ("P50 ms", "{:.3f}"),
    "latency_p99_ms": ("P99 ms", "{:.3f}"),
}


def runs_view(now: datetime) -> View[RunRecord]:
    """Return the view of runs."""
    return View(
        columns=(
            Column(header="RUN", text=lambda run: run.run_id[:SHORT_RUN]),
            Column(header="NAME", text=lambda run: run.name),
            Column(header="RECIPE", text=lambda run: run.recipe),
            Column(header="STATE", text=lambda run: run.state, style=lambda run: state_style(run.state)),
            Column(header="JOBS", text=_jobs_of),
            Column(header="CREATED", text=lambda run: ago(run.created_at, now), right=True),
            Column(header="TOOK", text=_run_took, right=True),
        ),
        document=documents.run_document,
        fields=documents.RUN_FIELDS,
        name=lambda run: run.run_id,
        empty="no runs yet; begin with: npuq demo, or npuq sweep --help",
    )


def _jobs_of(run: RunRecord) -> str:
    total = sum(run.jobs.values())
    done = run.jobs.get(JobState.SUCCEEDED, 0)
    bad = sum(count for state, count in run.jobs.items() if state in FINAL_JOB_STATES - {JobState.SUCCEEDED})
    return f"{done}/{total}" + (f", {bad} not" if bad else "") if total else "-"


def _run_took(run: RunRecord) -> str:
    return "-" if run.finished_at is None else duration((run.finished_at - run.created_at).total_seconds())


def parameters(kind_params: Mapping[str, Any]) -> str:
    """Return the parameters that tell jobs apart, short: `bs 8, fp16, flipped, 0-64`; the pass where it has a name."""
    parts = []
    if kind_params.get("batch_size") is not None:
        parts.append(f"bs {kind_params['batch_size']}")
    if kind_params.get("precision"):
        parts.append(str(kind_params["precision"]))
    if kind_params.get("scope") is not None:
        parts.append(f"{kind_params['scope']} of {counted(kind_params['chips'], 'chip')}")
    if kind_params.get("pass", _UNNAMED) != _UNNAMED:
        parts.append(str(kind_params["pass"]))
    if kind_params.get("stop") is not None:
        parts.append(f"{kind_params.get('start', 0)}-{kind_params['stop']}")
    return ", ".join(parts) or "-"


def jobs_view(now: datetime) -> View[JobRecord]:
    """Return the view of jobs."""
    return View(
        columns=(
            Column(header="JOB", text=lambda job: job.job_id[:SHORT_JOB]),
            Column(header="KIND", text=lambda job: job.kind),
            Column(header="PARAMETERS", text=lambda job: parameters(job.params)),
            Column(header="STATE", text=_job_state, style=lambda job: state_style(job.state)),
            Column(header="TRY", text=lambda job: str(job.attempt or "-"), right=True),
            Column(header="DEVICE", text=lambda job: job.device_id or "-"),
            Column(header="TOOK", text=lambda job: _job_took(job, now), right=True),
            Column(header="REASON", text=_job_reason),
        ),
        document=documents.job_document,
        fields=documents.JOB_FIELDS,
        name=lambda job: job.job_id,
        empty="no such jobs",
    )


def _job_state(job: JobRecord) -> str:
    if job.reused_from is None:
        return job.state
    return f"{job.state} (as its card)" if job.accompanies else f"{job.state} (reused)"


def _job_took(job: JobRecord, now: datetime) -> str:
    if job.started_at is None or job.reused_from:
        return "-"
    end = job.finished_at or (now if job.state is JobState.RUNNING else None)
    return "-" if end is None else duration((end - job.started_at).total_seconds())


def _job_reason(job: JobRecord) -> str:
    return one_line(job.error.message if job.error and job.state in FINAL_JOB_STATES else job.reason)


def plan_view(reused: frozenset[str]) -> View[NewJob]:
    """Return the view of jobs that are only planned; `reused` holds the labels of work that is there already."""
    return View(
        columns=(
            Column(header="KIND", text=lambda job: job.kind),
            Column(header="LABEL", text=lambda job: job.label),
            Column(header="PARAMETERS", text=_planned_parameters),
            Column(header="CHIP", text=_planned_chip),
            Column(header="AFTER", text=_planned_parents),
            Column(header="REUSED", text=lambda job: "yes" if job.label in reused else ""),
        ),
        document=lambda job: documents.planned_job_document(job, reused),
        fields=documents.PLANNED_JOB_FIELDS,
        name=lambda job: job.label,
        empty="nothing to do",
    )


def _planned_parameters(job: NewJob) -> str:
    """Return the parameters, with what ATC will be asked of a conversion: `bs 8, fp16, log=info, CANN 8.0.0`."""
    from npuq.atc_options import read_options

    options = read_options(job.params.get("atc", {}))
    asked = {name: value[:SHORT_JOB] if name in options.files else value for name, value in options.written().items()}
    cann = [f"CANN {job.params['cann']}"] if job.params.get("cann") else []
    return ", ".join([parameters(job.params), *(f"{name}={value}" for name, value in asked.items()), *cann])


def _planned_chip(job: NewJob) -> str:
    return job.pinned_device or job.soc_version or job.params.get("soc_version") or "-"


def _planned_parents(job: NewJob) -> str:
    labels = [label for role in job.parents.values() for label in role]
    return ", ".join(labels) if len(labels) <= 2 else f"{labels[0]} and {len(labels) - 1} more"  # noqa: PLR2004


def devices_view(now: datetime) -> View[DeviceRecord]:
    """Return the view of devices."""
    return View(
        columns=(
            Column(header="DEVICE", text=lambda device: device.device_id),
            Column(header="HOST", text=lambda device: device.host),
            Column(header="NPU", text=lambda device: _number(device.npu_id), right=True),
            Column(header="CHIP", text=lambda device: _number(device.chip_id), right=True),
            Column(header="SOC", text=_soc),
            Column(header="HEALTH", text=lambda device: device.health),
            Column(header="STATE", text=lambda device: device.state, style=lambda device: state_style(device.state)),
            Column(header="SEEN", text=lambda device: ago(device.seen_at, now), right=True),
            Column(header="REASON", text=lambda device: one_line(device.state_reason)),
        ),
        document=documents.device_document,
        fields=documents.DEVICE_FIELDS,
        name=lambda device: device.device_id,
        empty="no devices; start a worker where the cards are: npuq worker (or emulate some: npuq up --emulate 2)",
    )


def device_events_view(now: datetime) -> View[DeviceEventRecord]:
    """Return the view of what happened to devices."""
    return View(
        columns=(
            Column(header="WHEN", text=lambda event: ago(event.at, now), right=True),
            Column(header="DEVICE", text=lambda event: event.device_id),
            Column(header="STATE", text=lambda event: event.state, style=lambda event: state_style(event.state)),
            Column(header="CAUSE", text=lambda event: event.cause),
            Column(header="REASON", text=lambda event: event.reason),
        ),
        document=documents.device_event_document,
        fields=documents.DEVICE_EVENT_FIELDS,
        name=lambda event: str(event.event_id),
        empty="nothing happened to these devices",
    )


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _soc(device: DeviceRecord) -> str:
    name = device.soc_version or device.name
    return f"{name} (emulated)" if device.emulated else name


def results_view(now: datetime) -> View[ResultRecord]:
    """Return the view of results: accuracies share a column, because each recipe has its own."""
    metrics = [
        Column[ResultRecord](header=header, text=_metric_reader(name, form), right=True)
        for name, (header, form) in _METRIC_HEADERS.items()
    ]
    return View(
        columns=(
            Column(header="RESULT", text=lambda result: result.result_id[:SHORT_JOB]),
            Column(header="RECIPE", text=lambda result: result.variant),
            Column(header="CHIP", text=_result_chip),
            Column(header="BATCH", text=lambda result: str(result.batch_size), right=True),
            Column(header="PRECISION", text=lambda result: result.precision),
            Column(header="DATASET", text=_result_dataset),
            Column(header="ACCURACY", text=_accuracy),
            *metrics,
            Column(header="QUALITY", text=lambda result: result.quality),
            Column(header="CREATED", text=lambda result: ago(result.created_at, now), right=True),
        ),
        document=documents.result_document,
        fields=documents.RESULT_FIELDS,
        name=lambda result: result.result_id,
        empty="no such results",
    )


def _metric_reader(name: str, form: str) -> Any:  # noqa: ANN401 - a column's `text`
    def read(result: ResultRecord) -> str:
        value = result.metrics.get(name)
        return "-" if value is None else form.format(value)

    return read


def _accuracy(result: ResultRecord) -> str:
    """Return the metrics by which a recipe is judged: `Top-1 69.52 %, Top-5 88.93 %`, `mAP 0.4052`."""
    names = ("mAP",) if "mAP" in result.metrics else _ACCURACIES
    shown = [(METRICS[name], result.metrics[name]) for name in names if name in result.metrics]
    return (
        ", ".join(
            f"{metric.title} {value:.2f} %" if metric.unit == "percent" else f"{metric.title} {value:.4f}"
            for metric, value in shown
        )
        or "-"
    )


def _result_chip(result: ResultRecord) -> str:
    scope = " card" if result.scope == Scope.CARD else ""
    return f"{result.soc_version or '-'}{scope}{' (emulated)' if result.emulated else ''}"


def _result_dataset(result: ResultRecord) -> str:
    """Return the dataset, and how much of it where that is not all: `imagenet (240 of 50000)`."""
    if not result.is_partial:
        return result.dataset or "-"
    whole = "" if result.dataset_samples is None else f" of {result.dataset_samples}"
    return f"{result.dataset} ({result.samples}{whole})"


def datasets_view(now: datetime) -> View[DatasetRecord]:
    """Return the view of datasets."""
    return View(
        columns=(
            Column(header="NAME", text=lambda dataset: dataset.name),
            Column(header="FORMAT", text=lambda dataset: dataset.format),
            Column(header="SAMPLES", text=lambda dataset: str(dataset.samples), right=True),
            Column(header="DIGEST", text=lambda dataset: dataset.digest[:SHORT_JOB]),
            Column(header="ADDED", text=lambda dataset: ago(dataset.added_at, now), right=True),
            Column(header="WHERE", text=_dataset_places),
        ),
        document=documents.dataset_document,
        fields=documents.DATASET_FIELDS,
        name=lambda dataset: dataset.name,
        empty="no datasets yet; add one with: npuq datasets add NAME FOLDER --format imagenet",
    )


def _dataset_places(dataset: DatasetRecord) -> str:
    """Return where workers find a dataset: `/data/imagenet; on h2: /mnt/imagenet`."""
    usual = "the store" if dataset.in_store else dataset.root
    return "; ".join([usual, *(f"on {host}: {root}" for host, root in dataset.folders.items())])


def counts_in_words(counts: Mapping[JobState, int]) -> str:
    """Return the jobs of a run by state, in words: `3 succeeded, 2 running`."""
    order = list(JobState)
    shown = sorted(((state, count) for state, count in counts.items() if count), key=lambda item: order.index(item[0]))
    return ", ".join(f"{count} {state}" for state, count in shown) or counted(0, "job")
