"""The one list of metrics: name, unit, which way is better, and how people write it.

Reports, comparisons and the database take units and directions from here; no other module spells them.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from npuq.errors import NotFoundError
from tasks.steps import Metric


@dataclass(frozen=True, kw_only=True)
class MetricDefinition:
    """What a metric name means.

    Attributes:
        name: as in JSON and in the database.
        unit: `percent` (0 to 100), `fraction` (0 to 1), `fps` or `ms`.
        higher_is_better: direction of an improvement.
        title: how tables head it.
    """

    name: str
    unit: str
    higher_is_better: bool
    title: str


def _accuracy(name: str, unit: str, title: str) -> MetricDefinition:
    return MetricDefinition(name=name, unit=unit, higher_is_better=True, title=title)


def _rate(name: str, title: str) -> MetricDefinition:
    return MetricDefinition(name=name, unit="fps", higher_is_better=True, title=title)


def _duration(name: str, title: str) -> MetricDefinition:
    return MetricDefinition(name=name, unit="ms", higher_is_better=False, title=title)


_ALL: Final = (
    _accuracy("top1", "percent", "Top-1"),
    _accuracy("top5", "percent", "Top-5"),
    _accuracy("mAP", "fraction", "mAP"),
    _accuracy("mAP_iou45", "fraction", "mAP (IoU 0.45)"),
    _accuracy("mAP_area", "fraction", "mAP (area)"),
    _accuracy("mAP_area_iou45", "fraction", "mAP (area, IoU 0.45)"),
    _accuracy("AP50", "fraction", "AP50"),
    _accuracy("AP75", "fraction", "AP75"),
    _accuracy("AP_easy", "fraction", "AP easy"),
    _accuracy("AP_small", "fraction", "AP small"),
    _accuracy("AP_medium", "fraction", "AP medium"),
    _accuracy("AP_large", "fraction", "AP large"),
    _accuracy("AP_hard", "fraction", "AP hard"),
    _accuracy("AR1", "fraction", "AR1"),
    _accuracy("AR10", "fraction", "AR10"),
    _accuracy("AR100", "fraction", "AR100"),
    _accuracy("AR300", "fraction", "AR300"),
    _accuracy("AR1000", "fraction", "AR1000"),
    _accuracy("AR_small", "fraction", "AR small"),
    _accuracy("AR_medium", "fraction", "AR medium"),
    _accuracy("AR_large", "fraction", "AR large"),
    _rate("throughput_fps", "fps"),
    _rate("end_to_end_fps", "end-to-end fps"),
    _duration("latency_mean_ms", "mean latency"),
    _duration("latency_p50_ms", "p50 latency"),
    _duration("latency_p90_ms", "p90 latency"),
    _duration("latency_p99_ms", "p99 latency"),
    _duration("h2d_ms", "host to device"),
    _duration("d2h_ms", "device to host"),
)

#: Metric name -> what it means, in the order of tables.
METRICS: Final[dict[str, MetricDefinition]] = {metric.name: metric for metric in _ALL}


def definition(name: str) -> MetricDefinition:
    """Return what a metric name means; raises NotFoundError for a name that is not on the list."""
    found = METRICS.get(name)
    if found is None:
        close = difflib.get_close_matches(name, METRICS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise NotFoundError(f"There is no metric {name!r}.{hint} Known metrics: {', '.join(METRICS)}.")
    return found


def in_order(names: Iterable[str]) -> list[str]:
    """Return metric names in the order of tables, each once; those that are not on the list come last."""
    places = {name: place for place, name in enumerate(METRICS)}
    return sorted(dict.fromkeys(names), key=lambda name: places.get(name, len(places)))


def measured(name: str, value: float) -> Metric:
    """Return a value with its metric's unit; raises NotFoundError for a name that is not on the list."""
    return Metric(value=float(value), unit=definition(name).unit)
