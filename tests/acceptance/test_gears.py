"""One OM with gears serves a sweep over batch sizes, with the numbers of models made for one batch size each."""

from typing import Any

import pytest

from tests.fleet.laptop import Laptop

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


def evaluate(laptop: Laptop, *options: str) -> tuple[list[dict[str, Any]], dict[int, Any]]:
    """Evaluate at batch sizes 1 and 4; returns the conversions, and batch size -> metrics."""
    run_id = laptop.evaluate("demo", None, "--batch-sizes", "1,4", *options)
    laptop.wait(run_id)
    metrics = {result["batch_size"]: result["metrics"] for result in laptop.accuracies(run_id)}
    return laptop.jobs(run_id, "convert"), metrics


def test_one_model_with_gears_scores_like_one_model_per_batch_size(laptop: Laptop) -> None:
    """It is converted once for the sweep, and no batch size loses or gains a sample by it."""
    conversions, with_gears = evaluate(laptop, "--atc", "dynamic_batch_size=1,4")
    each, without = evaluate(laptop)
    assert len(conversions) == 1
    assert len(each) == 2
    assert with_gears.keys() == {1, 4}
    assert with_gears == without


def test_a_dry_run_shows_what_equal_work_has_left(laptop: Laptop) -> None:
    """After a run everything of it is there already; another batch size shares its export."""
    evaluate(laptop)
    given = ("submit", "evaluate", "mobilenet_v1", "--weights", str(laptop.demo.weights), "--dataset", "demo")
    again = laptop.read(*given, "--batch-sizes", "1,4", "--dry-run")
    assert all(job["reused"] for job in again)
    other = laptop.read(*given, "--batch-sizes", "2", "--dry-run")
    assert [job["kind"] for job in other if job["reused"]] == ["export"]
