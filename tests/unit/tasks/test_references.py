"""Published figures are data that cannot contradict itself."""

import csv
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks import references, registry
from tasks.references import References

FIGURE = {
    "recipe": "mobilenet_v1",
    "chip": "Ascend310P3",
    "scope": "chip",
    "dataset": "ImageNet val",
    "metric": "top1",
    "unit": "percent",
    "value": 69.52,
    "source": "a guide",
}


def with_figures(*figures: dict[str, Any]) -> References:
    return References.model_validate({"reference": figures, "tolerance": []})


def test_shipped_figures_belong_to_recipes_that_exist() -> None:
    """A figure without its recipe would never be compared."""
    loaded = references.load()
    assert {figure.recipe for figure in loaded.reference} <= set(registry.names())
    assert {rule.recipe for rule in loaded.tolerance} <= set(registry.names())


@pytest.mark.parametrize(
    ("chip", "scope", "batch_size", "fps"), [("Ascend310P3", "chip", 64, 14515.69), ("Ascend310", "card", 8, 7116.32)]
)
def test_throughput_is_found_per_chip_or_per_card(chip: str, scope: str, batch_size: int, fps: float) -> None:
    """The guide's 310 figures are a card's; the stale sentence does not hide the table's figure."""
    found = [
        figure.value
        for figure in references.load().of("mobilenet_v1", metric="throughput_fps")
        if (figure.chip, figure.scope, figure.batch_size) == (chip, scope, batch_size)
    ]
    assert found == [fps]


def test_every_guide_row_is_there() -> None:
    """Nothing was dropped or mistyped on the way from the fact sheet, where that exists."""
    shared = os.environ.get("NPUQ_SHARED")
    sheet = (Path(shared) if shared else Path(__file__).parents[4] / "shared") / "facts" / "recipes" / "reference.csv"
    if not sheet.is_file():
        pytest.skip(f"no fact sheet at {sheet}")
    with sheet.open(encoding="utf-8", newline="") as stream:
        rows = [
            row
            for row in csv.DictReader(stream)
            if row["model"] == "MobileNetV1" and not row["source"].startswith("NOT seed")
        ]
    published = sorted((row["batch_size"], float(row["fps"] or row["value"])) for row in rows)
    with references.REFERENCES_FILE.open("rb") as stream:
        figures = tomllib.load(stream)["reference"]
    ours = sorted(
        (str(figure.get("batch_size", "")), figure["value"]) for figure in figures if figure["recipe"] == "mobilenet_v1"
    )
    assert ours == published


@pytest.mark.parametrize(("value", "good"), [(69.52, True), (68.83, True), (68.82, False), (75.0, True)])
def test_accuracy_may_fall_by_one_percent(value: float, *, good: bool) -> None:
    """The guides' rule, relative to the reference; better is always good."""
    rule = references.load().tolerance_of("mobilenet_v1", "top1")
    assert rule is not None
    assert rule.allows(value, 69.52) is good


def test_throughput_has_no_tolerance() -> None:
    """The guides give none, so none is invented."""
    assert references.load().tolerance_of("mobilenet_v1", "throughput_fps") is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metric": "top-1"}, "unknown metric"),
        ({"unit": "fraction"}, "measured in percent"),
        ({"scope": None}, "go together"),
        ({"fps": 3}, "Extra inputs are not permitted"),
    ],
)
def test_malformed_figure_is_refused(change: dict[str, Any], said: str) -> None:
    """A typing error in the data is an error, not a figure that nobody finds."""
    assert with_figures(FIGURE).reference[0].value == 69.52
    with pytest.raises(ValidationError, match=said):
        with_figures(FIGURE | change)


def test_two_figures_for_one_thing_need_a_decision() -> None:
    """One of them must be marked as superseded."""
    other = FIGURE | {"value": 69.55}
    with pytest.raises(ValidationError, match="two numbers"):
        with_figures(FIGURE, other)
    assert with_figures(FIGURE, other | {"superseded": "an older page"}).of("mobilenet_v1")[0].value == 69.52
