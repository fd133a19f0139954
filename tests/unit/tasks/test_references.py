"""Published figures are data that cannot contradict itself."""

import csv
import os
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from npuq.errors import InvalidRequestError
from tasks import references, registry
from tasks.protocols import Recipe
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


def test_shipped_figures_belong_to_recipes_of_the_guides() -> None:
    """A figure of a misspelt recipe would never be compared; every recipe has figures and a rule."""
    loaded = references.load()
    recipes = set(registry.names())
    assert {figure.recipe for figure in loaded.reference} == recipes
    assert {rule.recipe for rule in loaded.tolerance} == recipes


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


RECIPES = {
    "SSD-MobileNetV2": "ssd_mobilenetv2",
    "EfficientDetD0": "efficientdet_d0",
    "NAS-FPN": "nas_fpn",
    "MobileNetV1": "mobilenet_v1",
    "PyramidBox": "pyramidbox",
}
#: As the fact sheet names metrics -> our name.
METRIC_NAMES = {
    "mAP 11-point (matching IoU 0.45 in script)": "mAP_iou45",
    "mAP 0.5:0.95": "mAP",
    "Top1 %": "top1",
    "Top5 %": "top5",
    "AP Easy": "AP_easy",
    "AP Medium": "AP_medium",
    "AP Hard": "AP_hard",
    "mAP 11-point IoU 0.5": "mAP",
}
#: Metrics that the fact sheet has in percent, and we as fractions.
PERCENTAGES = {"box AP": "mAP"}
#: As the fact sheet names chips -> chip and scope; others are chips by their own name.
CHIPS = {
    "open source (PyTorch)": (None, None),
    "online PyTorch (fork)": (None, None),
    "PyTorch reference": (None, None),
    "PyTorch reference repo": (None, None),
    "PyTorch reference (rmsprop init from sgd)": (None, None),
    "PyTorch reference tf_efficientdet_d0 (f153e0cf)": (None, None),
    "mmdetection README": (None, None),
    "paper (as quoted)": (None, None),
    "Ascend310 single chip": ("Ascend310", "chip"),
    "Ascend310 card (4 chips)": ("Ascend310", "card"),
    "Ascend310 (card = 4 chips)": ("Ascend310", "card"),
    "T4": ("T4", "card"),
}


def figures_of(row: dict[str, str]) -> list[tuple[str, ...]]:
    """Return recipe, chip, scope, batch size, metric and value of what a row of the fact sheet publishes."""
    chip, scope = CHIPS.get(row["chip"], (row["chip"], "chip"))
    where = (RECIPES[row["model"]], str(chip), str(scope), row["batch_size"] or "None")
    published = [("throughput_fps", float(row["fps"]))] if row["fps"] else []
    if row["value"] and not row["value"].startswith("("):  # in brackets: a remark, not a number
        name = row["metric"]
        in_percent = name in PERCENTAGES
        published.append(
            (PERCENTAGES.get(name) or METRIC_NAMES[name], float(row["value"]) / (100 if in_percent else 1))
        )
    return [(*where, metric, repr(value)) for metric, value in published]


def test_every_figure_of_the_guides_is_there() -> None:
    """Nothing was dropped, mistyped or added on the way from the fact sheet, where that exists.

    The guides' figures and the frameworks' own are there; of other editions of the guides only those of PyramidBox on a
    chip that its guide has none of.
    """
    shared = os.environ.get("NPUQ_SHARED")
    sheet = (Path(shared) if shared else Path(__file__).parents[4] / "shared") / "facts" / "recipes" / "reference.csv"
    if not sheet.is_file():
        pytest.skip(f"no fact sheet at {sheet}")
    with sheet.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    guides = [figure for row in rows if not row["source"].startswith("NOT seed") for figure in figures_of(row)]
    newer = {  # its throughput is in each of three rows
        figure
        for row in rows
        if (row["model"], row["chip"]) == ("PyramidBox", "Ascend310P3")
        for figure in figures_of(row)
    }
    published = sorted([*guides, *newer])
    ours = sorted(
        tuple(map(str, (item.recipe, item.chip, item.scope, item.batch_size, item.metric, repr(item.value))))
        for item in references.load().reference
    )
    assert ours == published


def test_chips_figures_have_a_precision_and_gpus_have_none() -> None:
    """What ATC was told is known; what a GPU's runtime did is not."""
    for item in references.load().reference:
        assert (item.precision is not None) == (item.chip or "").startswith("Ascend"), item


def test_figure_that_the_guide_corrects_itself_is_not_compared_with() -> None:
    """NAS-FPN's closing sentence is older than the output that the guide shows."""
    found = references.load().of("nas_fpn", metric="throughput_fps")
    assert [(item.chip, item.batch_size, item.value) for item in found] == [("Ascend310P", 1, 62.17950873049252)]


def test_pyramidbox_is_held_against_the_mean_of_its_three() -> None:
    """One of the three falls by 3 % on the chip; the guide accepts it, because the mean falls by 0.7 %."""
    loaded = references.load()
    rule = loaded.tolerance_of("pyramidbox", "AP_hard")
    assert rule is not None
    figures = [figure for figure in loaded.of("pyramidbox") if figure.metric in rule.metrics]
    framework = {figure.metric: figure.value for figure in figures if figure.chip is None}
    chip = {figure.metric: figure.value for figure in figures if figure.chip == "Ascend310"}
    assert rule.passes(chip, framework)
    assert not rule.model_copy(update={"compared": "each"}).passes(chip, framework)
    assert not rule.passes(chip | {"AP_easy": 0.95}, framework)
    with pytest.raises(KeyError):
        rule.passes({"AP_easy": 1.0}, framework)


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


def test_rule_for_a_metric_that_does_not_exist_is_refused() -> None:
    """Else it would never be applied."""
    rule = {"recipe": "nas_fpn", "metrics": ["map"], "max_relative_drop": 0.01, "source": "a guide"}
    with pytest.raises(ValidationError, match="unknown metric 'map'"):
        References.model_validate({"reference": [], "tolerance": [rule]})


def test_two_figures_for_one_thing_need_a_decision() -> None:
    """One of them must be marked as superseded."""
    other = FIGURE | {"value": 69.55}
    with pytest.raises(ValidationError, match="two numbers"):
        with_figures(FIGURE, other)
    assert with_figures(FIGURE, other | {"superseded": "an older page"}).of("mobilenet_v1")[0].value == 69.52


class Guest:
    """A recipe of another distribution, as far as figures go."""

    id = "guest"

    def __init__(self, references_file: Path) -> None:
        self.references_file = references_file


def figures_from(path: Path, text: str) -> References:
    path.write_text(text, encoding="utf-8")
    return references.of_recipe(cast("Recipe", Guest(path)))


def test_figures_of_a_built_in_recipe_are_the_shipped_ones() -> None:
    """Its own and no other's."""
    found = references.of_recipe(registry.get("nas_fpn"))
    assert [item.value for item in found.reference] == [0.405, 62.17950873049252, 62.3, 0.405, 23.0]
    assert [rule.metrics for rule in found.tolerance] == [("mAP",)]


FIGURE_OF_A_GUEST = """
[[reference]]
recipe = "guest"
dataset = "ImageNet val"
metric = "top1"
unit = "percent"
value = 58.178
source = "their page"

[[tolerance]]
recipe = "guest"
metrics = ["top1"]
max_relative_drop = 0.01
source = "their rule"
"""


def test_recipe_of_another_distribution_brings_its_own_figures(tmp_path: Path) -> None:
    """They are read and checked like npuq's."""
    found = figures_from(tmp_path / "references.toml", FIGURE_OF_A_GUEST)
    assert [item.value for item in found.of("guest", metric="top1")] == [58.178]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FIGURE_OF_A_GUEST.replace("percent", "fraction"), "measured in percent"),
        (FIGURE_OF_A_GUEST.replace('"guest"', '"mobilenet_v1"', 1), "speaks of mobilenet_v1"),
        ("[[reference]", "no published figures"),
        ("", "Field required"),
    ],
)
def test_wrong_file_of_another_distribution_is_named(tmp_path: Path, text: str, said: str) -> None:
    """The author of that recipe reads what to mend, and no figure of ours can be replaced."""
    with pytest.raises(InvalidRequestError, match=said) as caught:
        figures_from(tmp_path / "references.toml", text)
    assert "references.toml" in caught.value.info.message
