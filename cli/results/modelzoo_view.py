"""How the accuracies of a ModelZoo report look to programs; people get `report.modelzoo.as_text`. Pure."""

from typing import Any, Final

from cli.documents import result_document
from cli.output import View
from report.modelzoo import Accuracy, Comparison

MODELZOO_FIELDS: Final = (
    *("result_id", "recipe", "recipe_options", "soc_version", "emulated", "batch_size", "precision", "dataset"),
    *("samples", "partial", "block", "comparisons"),
)


def _comparison(item: Comparison) -> dict[str, Any]:
    return {
        "rule": item.rule.model_dump(mode="json", exclude={"recipe"}),
        "measured": dict(item.measured),
        "published": dict(item.published),
        "published_dataset": item.dataset or None,
        "verdict": item.verdict.value,
        "reason": item.reason,
    }


def modelzoo_document(score: Accuracy) -> dict[str, Any]:
    """Return the JSON form of an accuracy with what its rules say."""
    known = result_document(score.result)
    document: dict[str, Any] = {name: known[name] for name in MODELZOO_FIELDS if name in known}
    document["block"] = list(score.lines)
    document["comparisons"] = [_comparison(item) for item in score.comparisons]
    return document


def modelzoo_view() -> View[Accuracy]:
    """Return the view for every form but the text; as names, the ids of the results."""
    return View(
        columns=(),
        document=modelzoo_document,
        fields=MODELZOO_FIELDS,
        name=lambda score: score.result.result_id,
        empty="",
    )
