import hashlib
from pathlib import Path

import pytest

from npuq.atc_options import AtcOptions, read_options
from npuq.atc_shapes import Dimension
from npuq.errors import InvalidRequestError
from npuq.precision import Precision
from tasks import registry
from tasks.atc_request import input_shapes, merged, recipe_table
from tasks.protocols import TensorSpec

IMAGE = TensorSpec(name="image", dtype="float32", shape=("N", 3, 32, 32))
SIZES = TensorSpec(name="sizes", dtype="float32", shape=("N", 2))


class Tuned:
    """A recipe with a table, as far as ATC's options go."""

    def __init__(self, table: Path) -> None:
        self._known = registry.get("mobilenet_v1")
        self.atc_table = table

    def __getattr__(self, name: str) -> object:
        return getattr(self._known, name)


def write_table(folder: Path, text: str) -> Tuned:
    """Write a recipe's table."""
    (folder / "tuned.toml").write_text(text)
    return Tuned(folder / "tuned.toml")


def test_most_recipes_say_nothing() -> None:
    """The seam is optional."""
    assert recipe_table(registry.get("mobilenet_v1")).options == AtcOptions()


def test_a_recipes_files_lie_beside_its_table(tmp_path: Path) -> None:
    """A file is named by its digest from there on."""
    (tmp_path / "mix.json").write_text('{"black-list": {"to-add": ["Add"]}}')
    table = recipe_table(
        write_table(tmp_path, '[atc]\nmodify_mixlist = "mix.json"\nout_nodes = ["Concat_1487:0"]\n')  # type: ignore[arg-type]
    )
    assert table.files == {"modify_mixlist": tmp_path / "mix.json"}
    assert table.options.modify_mixlist == hashlib.sha256((tmp_path / "mix.json").read_bytes()).hexdigest()
    assert table.options.out_nodes == ("Concat_1487:0",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[atc", "no TOML file"),
        ("[other]\nx = 1", "no TOML file"),
        ("[atc]\n[more]\nx = 1", "more"),
        ('[atc]\nprecision_mode = "force_fp16"', "precision_mode cannot be given by a recipe"),
        ('[atc]\nwrong = "1"', "wrong is not an option"),
        ('[atc]\nkeep_dtype = "../../etc/passwd"', "cannot read"),
    ],
)
def test_an_authors_mistake_is_named(tmp_path: Path, text: str, words: str) -> None:
    """The message names the table or the option."""
    with pytest.raises(InvalidRequestError, match=words):
        recipe_table(write_table(tmp_path, text))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"input_shape": "nope:1,3,224,224"}, "input_shape: the recipe has no input nope; its inputs are image, sizes"),
        ({"input_shape": "image:1,3,9,9;nope:1"}, "no input nope"),
        ({"input_fp16_nodes": "image;nope"}, "input_fp16_nodes: the recipe has no input nope"),
    ],
)
def test_an_input_that_the_recipe_lacks_is_refused(values: dict[str, str], words: str) -> None:
    """Before anything is queued, with the names that there are."""
    with pytest.raises(InvalidRequestError, match=words):
        input_shapes((IMAGE, SIZES), 1, read_options(values))


def test_the_persons_options_come_first() -> None:
    """What the recipe says fills the gaps."""
    recipes = read_options({"op_select_implmode": "high_precision", "dynamic_dims": "1;2", "log": "info"})
    own = read_options({"op_select_implmode": "high_performance", "dynamic_batch_size": "1,2"})
    assert merged(own, recipes, Precision.FP16).to_json() == {
        "op_select_implmode": "high_performance",
        "dynamic_batch_size": [1, 2],
        "log": "info",
    }


def test_a_recipes_mix_list_waits_for_mixed_precision() -> None:
    """A sweep over precisions can have it in the recipe; of a person it would be a mistake."""
    recipes = read_options({"modify_mixlist": "a" * 64})
    assert merged(AtcOptions(), recipes, Precision.FP16) == AtcOptions()
    assert merged(AtcOptions(), recipes, Precision.MIXED).modify_mixlist == "a" * 64
    with pytest.raises(InvalidRequestError, match="modify_mixlist"):
        merged(recipes, AtcOptions(), Precision.FP16)


@pytest.mark.parametrize(
    ("written", "shapes"),
    [
        ({}, {"image": (4, 3, 32, 32), "sizes": (4, 2)}),
        ({"dynamic_batch_size": "1,2"}, {"image": (-1, 3, 32, 32), "sizes": (-1, 2)}),
        ({"dynamic_image_size": "32,32;64,64"}, {"image": (4, 3, -1, -1), "sizes": (4, 2)}),
        ({"input_shape": "image:1~8,3;sizes:-1"}, {"image": ("1~8", 3), "sizes": (-1,)}),
        (
            {"input_shape": "image:-1,3,-1,-1;sizes:-1,-1", "dynamic_dims": "1,8,8,1,2;2,9,9,2,2"},
            {"image": (-1, 3, -1, -1), "sizes": (-1, -1)},
        ),
    ],
)
def test_shapes_come_from_recipe_gears_or_person(
    written: dict[str, str], shapes: dict[str, tuple[Dimension, ...]]
) -> None:
    """Gears open the dimensions that they decide."""
    assert input_shapes((IMAGE, SIZES), 4, read_options(written)) == shapes


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"dynamic_batch_size": "1,2", "input_shape": "image:1,3"}, "first dimension"),
        ({"dynamic_batch_size": "1,2", "input_shape": "image:-1,-1"}, "no other"),
        ({"dynamic_image_size": "1,2;2,4", "input_shape": "image:-1,3,8,8"}, "height and width"),
        ({"dynamic_dims": "1;2"}, "input_shape has 0 times -1"),
        ({"dynamic_dims": "1;2", "input_shape": "image:1~4"}, "not a range"),
    ],
)
def test_gears_and_shapes_that_contradict_each_other(written: dict[str, str], words: str) -> None:
    """ATC would say the same, minutes later."""
    with pytest.raises(InvalidRequestError, match=words):
        input_shapes((IMAGE, SIZES), 4, read_options(written))
