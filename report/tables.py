"""The table at the end of a ModelZoo guide, made from results: chip, batch size, dataset, accuracy, fps. Pure.

Accuracy and performance of one configuration are two results; here they share a row. Emulated numbers are marked and
never compete with measured ones for the best.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from db.records import ResultRecord
from npuq.errors import NotFoundError
from npuq.states import Quality, Scope
from tasks import metrics

FPS: Final = "throughput_fps"
EMULATED: Final = "emulated"
BEST: Final = "best"
NOTHING: Final = "-"


@dataclass(frozen=True, kw_only=True)
class GuideRow:
    """One configuration.

    Attributes:
        recipe: recipe id, with its options where any were chosen.
        recipe_options: those options, name -> value.
        soc_version: the chip, for example `Ascend310P3`.
        scope: whether the throughput is one chip's or a whole card's; the two never share a row.
        chips: how many chips took part in it.
        emulated: whether any number of the row comes from the emulator.
        batch_size: samples per execution.
        precision: ours, for example `fp16`.
        dataset: what accuracy was measured on; None when it was not.
        samples: how many of its images.
        dataset_samples: how many it has; None: not known.
        images_digest: list of those images; None: they are the first.
        partial: whether they are a part of it, so that the accuracy is not to be held against published figures.
        accuracy: metric name -> value.
        fps: throughput; None when it was not measured.
        quality: of the throughput.
        result_ids: the results that the row was made of.
        best: the highest clean throughput among rows of the same recipe, chip, precision, scope and emulation.
    """

    recipe: str
    soc_version: str
    emulated: bool
    batch_size: int
    precision: str
    dataset: str | None
    samples: int | None
    dataset_samples: int | None
    images_digest: str | None
    partial: bool
    accuracy: Mapping[str, float]
    fps: float | None
    quality: Quality | None
    result_ids: tuple[str, ...]
    best: bool
    scope: str = Scope.CHIP
    chips: int = 1
    recipe_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Headers and cells, and which columns hold numbers."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[bool, ...]


_Key = tuple[str, str, str, str, bool, int]
_Images = tuple[str, int, str]


def guide_rows(results: Iterable[ResultRecord]) -> list[GuideRow]:
    """Return a row per configuration, ordered by recipe, chip, precision and batch size.

    Of several results of one configuration the newest counts; contaminated ones never do. Accuracies on other images
    are no newer ones: each set of images has a row of its own.
    """
    accuracy: dict[_Key, dict[_Images, ResultRecord]] = {}
    performance: dict[_Key, ResultRecord] = {}
    for result in sorted(results, key=lambda item: (item.created_at, item.result_id)):
        if result.quality is Quality.CONTAMINATED:
            continue
        if result.kind == "accuracy":
            accuracy.setdefault(_key(result), {})[_images(result)] = result
        else:
            performance[_key(result)] = result
    best = _best(performance)
    return [
        _row(key, scored, performance.get(key), best)
        for key in sorted({*accuracy, *performance})
        for scored in (accuracy[key].values() if key in accuracy else (None,))
    ]


def _key(result: ResultRecord) -> _Key:
    # A card after the chip, and a card's throughput never beside a chip's accuracy.
    scope = "" if result.scope == Scope.CHIP else result.scope
    return (result.variant, result.soc_version or NOTHING, result.precision, scope, result.emulated, result.batch_size)


def _images(result: ResultRecord) -> _Images:
    """Return what tells the images of an accuracy from others."""
    return (result.dataset_digest or "", result.samples or 0, result.images_digest or "")


def _best(performance: Mapping[_Key, ResultRecord]) -> set[_Key]:
    """Return the keys with the highest clean throughput of each recipe, chip, precision, scope and emulation."""
    leaders: dict[tuple[str, str, str, str, bool], _Key] = {}
    for key, result in performance.items():
        if result.quality is not Quality.CLEAN or FPS not in result.metrics:
            continue
        leader = leaders.get(key[:5])
        if leader is None or result.metrics[FPS] > performance[leader].metrics[FPS]:
            leaders[key[:5]] = key
    return set(leaders.values())


def _row(key: _Key, accuracy: ResultRecord | None, performance: ResultRecord | None, best: set[_Key]) -> GuideRow:
    recipe, soc_version, precision, scope, emulated, batch_size = key
    return GuideRow(
        recipe=recipe,
        soc_version=soc_version,
        emulated=emulated,
        batch_size=batch_size,
        precision=precision,
        dataset=accuracy.dataset if accuracy else None,
        samples=accuracy.samples if accuracy else None,
        dataset_samples=accuracy.dataset_samples if accuracy else None,
        images_digest=accuracy.images_digest if accuracy else None,
        partial=accuracy is not None and accuracy.is_partial,
        accuracy=dict(accuracy.metrics) if accuracy else {},
        fps=performance.metrics.get(FPS) if performance else None,
        quality=performance.quality if performance else None,
        result_ids=tuple(result.result_id for result in (accuracy, performance) if result is not None),
        best=key in best,
        scope=scope or Scope.CHIP,
        recipe_options=next(dict(result.recipe_options) for result in (accuracy, performance) if result is not None),
        chips=len(performance.facts.get("card", {}).get("chips", ())) or 1 if performance else 1,
    )


def guide_table(rows: Sequence[GuideRow]) -> Table:
    """Return the guide's table: `Chip | Batch size | Dataset | Top-1 | Top-5 | fps`.

    Recipe and precision have a column when they differ between the rows, the recipe also where it has options: then the
    table is not of the guide's model. Accuracy columns are those that were measured.
    """
    names = metrics.in_order(name for row in rows for name in row.accuracy)
    tells_recipe = len({row.recipe for row in rows}) > 1 or any(row.recipe_options for row in rows)
    several_precisions = len({row.precision for row in rows}) > 1
    columns = [
        *([("Model", False, [row.recipe for row in rows])] if tells_recipe else []),
        ("Chip", False, [_chip(row) for row in rows]),
        *([("Precision", False, [row.precision for row in rows])] if several_precisions else []),
        ("Batch size", True, [str(row.batch_size) for row in rows]),
        ("Dataset", False, [_dataset(row) for row in rows]),
        *((_title(name), True, [_value(name, row.accuracy.get(name)) for row in rows]) for name in names),
        (_title(FPS), True, [_value(FPS, row.fps) for row in rows]),
        ("Remark", False, [_remarks(row) for row in rows]),
    ]
    return Table(
        headers=tuple(header for header, _, _ in columns),
        right=tuple(right for _, right, _ in columns),
        rows=tuple(tuple(cells[index] for _, _, cells in columns) for index in range(len(rows))),
    )


def _chip(row: GuideRow) -> str:
    card = f" card of {row.chips}" if row.scope == Scope.CARD else ""
    return f"{row.soc_version}{card}{f' ({EMULATED})' if row.emulated else ''}"


def _dataset(row: GuideRow) -> str:
    if row.dataset is None:
        return NOTHING
    if row.samples is None:
        return row.dataset
    whole = f" of {row.dataset_samples}" if row.partial and row.dataset_samples is not None else ""
    return f"{row.dataset} ({row.samples}{whole} images)"


def _remarks(row: GuideRow) -> str:
    remarks = [BEST] if row.best else []
    if row.quality not in {None, Quality.CLEAN}:
        remarks.append(str(row.quality))
    return ", ".join(remarks)


def _title(name: str) -> str:
    try:
        found = metrics.definition(name)
    except NotFoundError:
        return name
    return f"{found.title} %" if found.unit == "percent" else found.title


def _value(name: str, value: float | None) -> str:
    """Return a metric with the decimals that guides print."""
    if value is None:
        return NOTHING
    try:
        unit = metrics.definition(name).unit
    except NotFoundError:
        return f"{value:.4g}"
    return {"percent": f"{value:.2f}", "fraction": f"{value:.4f}", "fps": f"{value:.1f}"}.get(unit, f"{value:.3f}")


def as_markdown(table: Table) -> str:
    """Return a table in Markdown; pipes in cells are escaped."""
    rules = ["---:" if right else "---" for right in table.right]
    lines = (table.headers, rules, *table.rows)
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def as_text(table: Table) -> str:
    """Return a table in aligned columns with a rule below the headers."""
    widths = [max(len(row[column]) for row in (table.headers, *table.rows)) for column in range(len(table.headers))]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, table.right, strict=True)
        ).rstrip()
        for row in (table.headers, tuple("-" * width for width in widths), *table.rows)
    ]
    return "".join(f"{line}\n" for line in lines)
