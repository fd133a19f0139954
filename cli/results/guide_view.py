"""How the rows of a guide's table look to programs; people get the table itself, from `report.tables`. Pure."""

from dataclasses import asdict
from typing import Any, Final

from cli.output import View
from report.tables import GuideRow
from tasks.metrics import METRICS

_ACCURACY_UNITS: Final = frozenset({"percent", "fraction"})
GUIDE_FIELDS: Final = (
    *("recipe", "soc_version", "emulated", "batch_size", "precision", "dataset", "samples"),
    *("dataset_samples", "images_digest", "partial"),
    *(f"accuracy.{metric.name}" for metric in METRICS.values() if metric.unit in _ACCURACY_UNITS),
    *("fps", "quality", "result_ids", "best", "scope", "chips", "recipe_options"),
)


def guide_document(row: GuideRow) -> dict[str, Any]:
    """Return the JSON form of a row of the guide's table."""
    return asdict(row)


def guide_view() -> View[GuideRow]:
    """Return the view of the rows for every form but the tables; as names, the results that they were made of."""
    return View(
        columns=(),
        document=guide_document,
        fields=GUIDE_FIELDS,
        name=lambda row: "\n".join(row.result_ids),
        empty="",
    )
