"""`npuq recipes`: what a person learns of a model before submitting anything."""

import json

from tests.unit.cli.answers import Npuq


def test_a_recipe_shows_its_contract_and_what_was_published(npuq: Npuq) -> None:
    """Inputs, outputs, options of ATC with the files they name, and every figure with chip, unit and source."""
    shown = json.loads(npuq("recipes", "show", "efficientdet_d0", "-o", "json").out)
    assert shown["inputs"] == [{"name": "x.1", "dtype": "float32", "shape": ["N", 3, 512, 512]}]
    assert shown["dynamic_batch"] is False
    assert shown["atc"]["modify_mixlist"].endswith(".json")
    fastest = max(
        (figure for figure in shown["references"] if figure["metric"] == "throughput_fps"),
        key=lambda figure: figure["value"],
    )
    assert (fastest["chip"], fastest["batch_size"], fastest["value"]) == ("Ascend310P3", 4, 260)
    assert [rule["max_relative_drop"] for rule in shown["tolerances"]] == [0.01]


def test_a_recipe_shows_what_can_be_chosen(npuq: Npuq) -> None:
    """Its options with their defaults, and the precision and batch sizes that it takes where none are asked for."""
    shown = json.loads(npuq("recipes", "show", "pyramidbox", "-o", "json").out)
    assert {option["name"]: option["default"] for option in shown["options"]} == {
        "upsampling": "align_corners",
        "side": "1000",
        "test_scales": "guide",
    }
    assert (shown["passes"], shown["precision"], shown["batch_sizes"]) == (["original", "flipped"], "fp32", [1])
    plain = json.loads(npuq("recipes", "show", "mobilenet_v1", "-o", "json").out)
    assert (plain["options"], plain["precision"]) == ([], "fp16")
    assert plain["batch_sizes"] == [1, 4, 8, 16, 32, 64]


def test_the_list_stays_readable_however_many_outputs_there_are(npuq: Npuq) -> None:
    """A detector has ten of them: the list says how many, `show` names them."""
    listed = npuq("recipes", "list").out
    assert "10: class_p3 to box_p7" in listed
    assert max(len(line) for line in listed.splitlines()) < 140
