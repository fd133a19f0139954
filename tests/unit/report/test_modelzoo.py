"""The accuracy block of a guide, and its own rule."""

from typing import Any

import pytest

from db.records import ResultRecord
from report.modelzoo import Verdict, accuracies, accuracy_block, as_text, compare, throughputs
from tasks import references
from tasks.references import References
from tests.unit.cli.records import result_record

ON_310 = {"AP_easy": 0.9628280209085509, "AP_medium": 0.9538134269337523, "AP_hard": 0.8798007442124222}

#: Of a result with an option of the recipe.
SMALL = {"params": {"recipe_options": {"side": "320"}}}


def published(_recipe: str) -> References:
    """Return the figures that npuq ships."""
    return references.load()


def faces(**changes: Any) -> ResultRecord:
    """Return what the guide of PyramidBox measured on a 310."""
    values: dict[str, Any] = {
        "kind": "accuracy",
        "recipe": "pyramidbox",
        "soc_version": "Ascend310",
        "emulated": False,
        "precision": "fp32",
        "dataset": "wider",
        "samples": 3226,
        "dataset_samples": 3226,
        "metrics": ON_310,
    }
    return result_record(**(values | changes))


def verdict(result: ResultRecord) -> tuple[Verdict, str]:
    """Return what the first rule of the result's recipe says."""
    rule = next(rule for rule in references.load().tolerance if rule.recipe == result.recipe)
    found = compare(result, rule, references.load())
    return found.verdict, found.reason


def test_the_guides_own_numbers_pass_by_the_mean_of_the_three() -> None:
    """Hard alone falls by 3 %; the mean is .932147, and .938909 was published."""
    assert verdict(faces()) == (
        Verdict.PASSES,
        "mean 0.932147 is 0.72 % below 0.938909 (1 % below is allowed)",
    )
    worse = faces(metrics=ON_310 | {"AP_easy": 0.95})
    assert verdict(worse) == (Verdict.FAILS, "mean 0.927871 is 1.18 % below 0.938909 (1 % below is allowed)")


@pytest.mark.parametrize(
    ("changes", "expected", "said"),
    [
        ({"emulated": True}, Verdict.DOES_NOT_COUNT, "emulated results do not count"),
        ({"samples": 8}, Verdict.NOT_COMPARED, "8 of 3226 images were scored"),
        ({"samples": 8, "dataset_samples": 8}, Verdict.NOT_COMPARED, "wider has 8 images, WIDER FACE val has 3226"),
        ({"samples": 8, "metrics": {"AP_hard": 0.9}}, Verdict.NOT_COMPARED, "8 of 3226 images were scored"),
        ({"facts": SMALL}, Verdict.NOT_COMPARED, "the published figures are of pyramidbox without options"),
        ({"metrics": {"AP_easy": 0.9}}, Verdict.NOT_COMPARED, "it has no AP medium, AP hard"),
        ({"recipe": "mobilenet_v1", "metrics": {"top1": 69.0, "top5": 88.9}, "samples": 50_000,
          "dataset_samples": 50_000}, Verdict.PASSES, "Top-1 69.000 is 0.76 % below 69.526"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_not(changes: dict[str, Any], expected: Verdict, said: str) -> None:
    """And it is said why."""
    found, reason = verdict(faces(**changes))
    assert found is expected
    assert said in reason


@pytest.mark.parametrize(
    ("facts", "lines"),
    [
        ({}, (" Results ".center(49, "="), f"Easy   Val AP: {ON_310['AP_easy']}")),
        (SMALL, (" Results ".center(49, "="),)),
        ({"guide_report": ["bbox_mAP: 0.4", "bbox_mAP_50: 0.6"]}, ("bbox_mAP: 0.4", "bbox_mAP_50: 0.6")),
        ({"guide_report": {"title": "All", "value": [{"key": "Top1", "value": "69%"}]}}, ("All:", "  Top1: 69%")),
    ],
)  # fmt: skip
def test_the_block_is_the_guides_own(facts: dict[str, Any], lines: tuple[str, ...]) -> None:
    """As the recipe reported it; of WIDER FACE the evaluation's three lines."""
    assert accuracy_block(faces(facts=facts))[: len(lines)] == lines


def test_throughputs_are_held_against_as_much_of_the_chip() -> None:
    """A card's against a card's, a chip's against a chip's; nothing else is."""
    fast = {"kind": "performance", "dataset": None, "metrics": {"throughput_fps": 0.62}}
    card = {"scope": "card", "metrics": {"throughput_fps": 2.5}, "facts": {"card": {"chips": [{}, {}, {}, {}]}}}
    others = [faces(**(fast | {"batch_size": 4})), faces(**(fast | {"facts": SMALL}))]
    found = throughputs([faces(**fast), faces(**(fast | card)), *others], published)
    assert [(rate.result.scope, rate.published and rate.published.value) for rate in found] == [
        ("card", 2.48),
        ("chip", 0.620281),
        ("chip", None),
        ("chip", None),
    ]
    assert "2.5 fps per card of 4 chips (published per card: 2.48)" in as_text([], found)


def test_the_report_ends_with_a_verdict_for_each_configuration() -> None:
    """One whole configuration as people read it."""
    text = as_text(accuracies([faces(), faces(soc_version="Ascend310P3")], published), [])
    assert text.splitlines()[0] == "pyramidbox, Ascend310, batch size 1, fp32, wider (3226 images)"
    assert [line for line in text.splitlines() if line.startswith("verdict")] == [
        "verdict: passes: mean 0.932147 is 0.72 % below 0.938909 (1 % below is allowed)"
    ] * len({"Ascend310", "Ascend310P3"})
    assert "(the model in its framework, WIDER FACE val)" in text
