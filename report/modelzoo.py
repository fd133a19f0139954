"""The end of a ModelZoo guide: its accuracy block, and what the guide's own rule says of it. Pure.

What cannot be compared is said to be so, and why: a part of a dataset, another dataset, a recipe with options, which is
another model or looked at otherwise. Emulated numbers are shown beside the published ones and never count.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean
from typing import Any, Final

from db.records import ResultRecord
from npuq.states import Quality, Scope
from tasks.metrics import METRICS, in_order
from tasks.references import PUBLISHED_IMAGES, Reference, References, Tolerance

FPS: Final = "throughput_fps"
_WIDER: Final = {"Easy  ": "AP_easy", "Medium": "AP_medium", "Hard  ": "AP_hard"}
_RULER: Final = 49  # characters of the lines around the block of WIDER FACE's evaluation


class Verdict(StrEnum):
    """What the guide's rule says."""

    PASSES = "passes"
    FAILS = "fails"
    DOES_NOT_COUNT = "does not count"  #: emulated
    NOT_COMPARED = "not compared"  #: there is nothing that it could be held against


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A rule applied.

    Attributes:
        rule: how far what may fall.
        measured, published: metric name -> value, of the rule's metrics; with several under a mean, `mean` besides.
        against: whose the published figures are, in words.
        dataset: on which they were published.
        verdict, reason: what the rule says, and why.
    """

    rule: Tolerance
    measured: Mapping[str, float]
    published: Mapping[str, float]
    against: str
    dataset: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """The accuracy of one configuration: the guide's own lines, and what its rules say."""

    result: ResultRecord
    lines: tuple[str, ...]
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """A throughput, and what was published for as much of the same chip: a chip's for a chip, a card's for a card."""

    result: ResultRecord
    published: Reference | None


def accuracies(results: Iterable[ResultRecord], published: Callable[[str], References]) -> list[Accuracy]:
    """Return the accuracy of each configuration, by recipe, chip, precision and batch size; of several the newest.

    Args:
        results: those of a run.
        published: recipe id -> its figures and rules.
    """
    newest: dict[tuple[Any, ...], ResultRecord] = {}
    for result in sorted(results, key=lambda item: (item.created_at, item.result_id)):
        if result.kind == "accuracy" and result.quality is not Quality.CONTAMINATED:
            images = (result.dataset_digest or "", result.samples or 0, result.images_digest or "")
            newest[(*_place(result), images)] = result
    return [
        Accuracy(
            result=result,
            lines=accuracy_block(result),
            comparisons=tuple(
                compare(result, rule, published(result.recipe))
                for rule in published(result.recipe).tolerance
                if rule.recipe == result.recipe
            ),
        )
        for _, result in sorted(newest.items())
    ]


def throughputs(results: Iterable[ResultRecord], published: Callable[[str], References]) -> list[Throughput]:
    """Return the throughput of each configuration and scope, ordered likewise; contaminated ones never count."""
    newest: dict[tuple[Any, ...], ResultRecord] = {}
    for result in sorted(results, key=lambda item: (item.created_at, item.result_id)):
        if result.kind == "performance" and result.quality is not Quality.CONTAMINATED and FPS in result.metrics:
            newest[(*_place(result), result.scope)] = result
    return [
        Throughput(result=result, published=_same_throughput(result, published(result.recipe)))
        for _, result in sorted(newest.items())
    ]


def _place(result: ResultRecord) -> tuple[str, str, str, bool, int]:
    return (result.variant, result.soc_version or "", result.precision, result.emulated, result.batch_size)


def _same_throughput(result: ResultRecord, published: References) -> Reference | None:
    if result.recipe_options:
        return None
    return next(
        (
            item
            for item in published.of(result.recipe, metric=FPS)
            if (item.chip, item.scope, item.precision) == (result.soc_version, result.scope, result.precision)
            and item.batch_size in {None, result.batch_size}
        ),
        None,
    )


def accuracy_block(result: ResultRecord) -> tuple[str, ...]:
    """Return what the guide's evaluation prints: its own report where the recipe gave one, else its metrics."""
    report = result.facts.get("guide_report")
    if isinstance(report, Mapping):
        return (f"{report['title']}:", *(f"  {item['key']}: {item['value']}" for item in report["value"]))
    if isinstance(report, str):
        return tuple(report.splitlines())
    if isinstance(report, Sequence):
        return tuple(str(line) for line in report)
    if "AP_hard" in result.metrics:
        lines = (f"{title} Val AP: {result.metrics[name]}" for title, name in _WIDER.items() if name in result.metrics)
        return (" Results ".center(_RULER, "="), *lines, "=" * _RULER)
    return tuple(f"{_title(name)}: {result.metrics[name]:.6g}" for name in in_order(result.metrics))


def compare(result: ResultRecord, rule: Tolerance, published: References) -> Comparison:
    """Hold a result against what was published, by one rule of its recipe."""
    references = _references(result, rule, published)
    measured = {name: result.metrics[name] for name in rule.metrics if name in result.metrics}
    figures = {name: item.value for name, item in references.items()}
    if rule.compared == "mean":
        measured, figures = _with_mean(measured, rule), _with_mean(figures, rule)
    first = next(iter(references.values()), None)
    verdict, reason = _verdict(result, rule, measured, figures, "" if first is None else first.dataset)
    return Comparison(
        rule=rule,
        measured=measured,
        published=figures,
        against="nobody" if first is None else _whose(first),
        dataset="" if first is None else first.dataset,
        verdict=verdict,
        reason=reason,
    )


def _with_mean(values: Mapping[str, float], rule: Tolerance) -> dict[str, float]:
    return dict(values) | ({"mean": fmean(values.values())} if len(values) == len(rule.metrics) else {})


def _references(result: ResultRecord, rule: Tolerance, published: References) -> dict[str, Reference]:
    """Return the figures of the model in its framework, else of this chip, else of any: the first with all metrics."""
    groups: dict[tuple[int, str, int], dict[str, Reference]] = {}
    for name in rule.metrics:
        for item in published.of(result.recipe, metric=name):
            rank = 0 if item.chip is None else 1 if item.chip == result.soc_version else 2
            other_batch = 0 if item.batch_size in {None, result.batch_size} else item.batch_size or 0
            groups.setdefault((rank, item.chip or "", other_batch), {}).setdefault(name, item)
    whole = (group for _, group in sorted(groups.items()) if len(group) == len(rule.metrics))
    return next(whole, {})


def _whose(item: Reference) -> str:
    return "the model in its framework" if item.chip is None else f"the guide's {item.chip}"


def _verdict(
    result: ResultRecord, rule: Tolerance, measured: Mapping[str, float], figures: Mapping[str, float], dataset: str
) -> tuple[Verdict, str]:
    different = _what_differs(result, dataset) if figures else "nothing was published for all of these metrics"
    missing = [_title(name) for name in rule.metrics if name not in measured]
    if different or missing:
        return Verdict.NOT_COMPARED, different or f"it has no {', '.join(missing)}"
    told = _falls(rule, measured, figures)
    if result.emulated:
        return Verdict.DOES_NOT_COUNT, f"emulated results do not count against figures of hardware; {told}"
    return (Verdict.PASSES if rule.passes(measured, figures) else Verdict.FAILS), told


def _what_differs(result: ResultRecord, dataset: str) -> str | None:
    """Return how a result is of something else than what was published of a dataset, None where it is not."""
    if result.recipe_options:
        return f"the published figures are of {result.recipe} without options"
    if result.is_partial:
        whole = "" if result.dataset_samples is None else f" of {result.dataset_samples}"
        return f"{result.samples}{whole} images were scored, the published figures are of all"
    images = PUBLISHED_IMAGES.get(dataset)
    if images is not None and result.samples != images:
        return f"{result.dataset} has {result.samples} images, {dataset} has {images}"
    return None


def _falls(rule: Tolerance, measured: Mapping[str, float], figures: Mapping[str, float]) -> str:
    names = ("mean",) if rule.compared == "mean" else rule.metrics
    parts = []
    for name in names:
        change = 100 * (measured[name] / figures[name] - 1)
        way = "below" if change < 0 else "above"
        parts.append(f"{_title(name)} {_number(measured[name])} is {abs(change):.2f} % {way} {_number(figures[name])}")
    return f"{'; '.join(parts)} ({100 * rule.max_relative_drop:g} % below is allowed)"


def _title(name: str) -> str:
    return METRICS[name].title if name in METRICS else name


def _number(value: float) -> str:
    return f"{value:.6f}" if value <= 1 else f"{value:.3f}"


def _where(result: ResultRecord) -> str:
    emulated = " (emulated)" if result.emulated else ""
    parts = (f"{result.soc_version or 'no chip'}{emulated}", f"batch size {result.batch_size}", result.precision)
    return ", ".join((result.variant, *parts))


def as_text(scores: Sequence[Accuracy], rates: Sequence[Throughput]) -> str:
    """Return the report for people."""
    lines: list[str] = []
    for score in scores:
        result = score.result
        whole = f" of {result.dataset_samples}" if result.is_partial and result.dataset_samples else ""
        lines += [f"{_where(result)}, {result.dataset} ({result.samples}{whole} images)", "", *score.lines, ""]
        for item in score.comparisons:
            lines += _comparison_lines(item)
        if not score.comparisons:
            lines += [f"verdict: {Verdict.NOT_COMPARED}: the recipe has no rule", ""]
    if rates:
        lines.append("throughput")
        lines += [f"  {_rate_line(rate)}" for rate in rates]
    return "".join(f"{line}\n" for line in lines)


def _comparison_lines(item: Comparison) -> list[str]:
    lines = [f"measured:  {_listed(item.measured)}"]
    if item.published:
        lines.append(f"published: {_listed(item.published)} ({item.against}, {item.dataset})")
    return [*lines, f"rule:      {item.rule.source}", f"verdict: {item.verdict}: {item.reason}", ""]


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{_title(name)} {_number(value)}" for name, value in values.items()) or "-"


def _rate_line(rate: Throughput) -> str:
    result = rate.result
    scope = f"card of {_chips(result)}" if result.scope == Scope.CARD else "chip"
    quality = "" if result.quality is Quality.CLEAN else f", {result.quality}"
    told = f"{_where(result)}: {result.metrics[FPS]:.6g} fps per {scope}{quality}"
    if rate.published is None:
        return told
    counted = "; emulated, does not count" if result.emulated else ""
    return f"{told} (published per {rate.published.scope}: {rate.published.value:g}{counted})"


def _chips(result: ResultRecord) -> str:
    count = len(result.facts.get("card", {}).get("chips", ()))
    return f"{count} chip{'' if count == 1 else 's'}"
