"""The guide's table out of results."""

from datetime import timedelta
from typing import Any

from npuq.states import Quality
from report.tables import as_markdown, as_text, guide_rows, guide_table
from tests.unit.cli.records import NOW, result_record


def _accuracy(**changes: Any) -> Any:
    return result_record(
        **{"kind": "accuracy", "dataset": "demo", "samples": 240, "metrics": {"top1": 87.0833, "top5": 99.1}} | changes
    )


def _fps(value: float, **changes: Any) -> Any:
    return result_record(metrics={"throughput_fps": value}, **changes)


def test_accuracy_and_throughput_of_a_configuration_share_a_row() -> None:
    """In the order of the batch sizes, the best fps marked."""
    rows = guide_rows([_fps(50.0, batch_size=4), _accuracy(batch_size=4), _fps(100.0), _accuracy()])
    assert as_markdown(guide_table(rows)).splitlines() == [
        "| Chip | Batch size | Dataset | Top-1 % | Top-5 % | fps | Remark |",
        "| --- | ---: | --- | ---: | ---: | ---: | --- |",
        "| Ascend310P3 (emulated) | 1 | demo (240 images) | 87.08 | 99.10 | 100.0 | best |",
        "| Ascend310P3 (emulated) | 4 | demo (240 images) | 87.08 | 99.10 | 50.0 |  |",
    ]


def test_a_part_of_a_dataset_is_never_taken_for_all_of_it() -> None:
    """A newer score of fewer images replaces no score; each has its row, and says how many of how many."""
    whole = _accuracy(dataset_samples=240)
    part = _accuracy(samples=24, dataset_samples=240, images_digest="1" * 64, created_at=NOW + timedelta(hours=1))
    rows = guide_rows([part, whole, _fps(100.0)])
    assert [row.partial for row in rows] == [False, True]
    assert [cells[2] for cells in guide_table(rows).rows] == ["demo (240 images)", "demo (24 of 240 images)"]
    other_list = _accuracy(samples=24, dataset_samples=240, images_digest="2" * 64)
    assert len(guide_rows([part, other_list])) == 2


def test_options_of_a_recipe_make_another_model_of_it() -> None:
    """Its numbers have rows of their own, and say which."""
    small = {"params": {"recipe_options": {"upsampling": "half_pixel", "side": "320"}}}
    rows = guide_rows([_accuracy(), _fps(10.0), _accuracy(facts=small), _fps(90.0, facts=small)])
    assert [(row.recipe, row.fps) for row in rows] == [
        ("mobilenet_v1", 10.0),
        ("mobilenet_v1 (side=320, upsampling=half_pixel)", 90.0),
    ]
    assert guide_table(guide_rows([_fps(90.0, facts=small)])).headers[0] == "Model"


def test_difficulties_come_in_their_order() -> None:
    """As guides list them, not by the alphabet as the database does."""
    faces = _accuracy(metrics={"AP_easy": 0.96, "AP_hard": 0.88, "AP_medium": 0.95, "of_my_own": 1.0})
    headers = guide_table(guide_rows([faces])).headers
    assert headers[3:7] == ("AP easy", "AP medium", "AP hard", "of_my_own")


def test_an_old_score_with_a_limit_counts_as_partial() -> None:
    """How many images there were was not noted then."""
    assert not _accuracy().is_partial
    old = _accuracy(facts={"params": {"limit": 24}})
    assert [(row.partial, row.dataset_samples) for row in guide_rows([old])] == [(True, None)]


def test_a_cards_throughput_shares_no_row_with_a_chips() -> None:
    """It comes after the chip's, says how many chips it is of, has no accuracy beside it, and is best among cards."""
    chips: dict[str, Any] = {"card": {"chips": [{}, {}, {}, {}]}}
    rows = guide_rows([_fps(2.48, scope="card", facts=chips), _fps(0.62), _accuracy()])
    assert [(row.scope, row.chips, row.fps, row.best) for row in rows] == [
        ("chip", 1, 0.62, True),
        ("card", 4, 2.48, True),
    ]
    assert [cells[0] for cells in guide_table(rows).rows] == [
        "Ascend310P3 (emulated)",
        "Ascend310P3 card of 4 (emulated)",
    ]
    assert (rows[0].dataset, rows[1].dataset) == ("demo", None)


def test_emulated_numbers_never_compete_with_measured_ones() -> None:
    """Each has a best of its own, and its own row."""
    rows = guide_rows([_fps(999.0), _fps(10.0, emulated=False)])
    assert [(row.emulated, row.fps, row.best) for row in rows] == [(False, 10.0, True), (True, 999.0, True)]


def test_only_clean_measurements_can_be_the_best() -> None:
    """An unstable one is shown as such, a contaminated one is not used."""
    rows = guide_rows(
        [
            _fps(10.0),
            _fps(20.0, batch_size=2, quality=Quality.UNSTABLE),
            _fps(30.0, batch_size=4, quality=Quality.CONTAMINATED),
        ]
    )
    assert [(row.batch_size, row.best) for row in rows] == [(1, True), (2, False)]
    assert as_text(guide_table(rows)).splitlines()[-1].endswith("unstable")


def test_of_several_results_the_newest_counts() -> None:
    """Whatever order the database gave them in."""
    older, newer = _fps(10.0), _fps(12.0, created_at=NOW + timedelta(hours=1))
    assert [row.fps for row in guide_rows([newer, older])] == [12.0]


def test_what_was_not_measured_is_a_dash() -> None:
    """A benchmark alone has no dataset."""
    (row,) = guide_table(guide_rows([_fps(10.0)])).rows
    assert row == ("Ascend310P3 (emulated)", "1", "-", "10.0", "best")


def test_recipe_and_precision_have_columns_when_they_differ() -> None:
    """And only then."""
    headers = guide_table(guide_rows([_fps(1.0), _fps(2.0, precision="fp32", recipe="other")])).headers
    assert headers[:3] == ("Model", "Chip", "Precision")


def test_no_results_make_an_empty_table() -> None:
    """Headers without rows."""
    assert guide_table(guide_rows([])).rows == ()
