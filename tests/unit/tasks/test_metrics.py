"""Every metric has one unit and one direction."""

import pytest

from npuq.errors import NotFoundError
from tasks import metrics
from tasks.steps import Metric


def test_value_gets_its_metrics_unit() -> None:
    """No caller spells a unit."""
    assert metrics.measured("top1", 69.52) == Metric(value=69.52, unit="percent")
    assert metrics.measured("throughput_fps", 7).unit == "fps"


def test_less_is_better_for_durations_only() -> None:
    """Comparisons take their direction from the list."""
    lower = {name for name, metric in metrics.METRICS.items() if not metric.higher_is_better}
    assert lower == {name for name in metrics.METRICS if name.endswith("_ms")}


def test_units_in_names_agree_with_the_unit() -> None:
    """A name that ends in a unit is measured in it."""
    for name, metric in metrics.METRICS.items():
        for unit in ("fps", "ms"):
            assert name.endswith(f"_{unit}") == (metric.unit == unit)


def test_unknown_metric_is_answered_with_the_nearest_name() -> None:
    """A recipe cannot invent a name by a typing error."""
    with pytest.raises(NotFoundError, match="Did you mean 'throughput_fps'"):
        metrics.definition("throughput")
