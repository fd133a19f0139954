"""What ATC is asked for a recipe: the input shapes, and the recipe's own options under those of the person. Pure.

A recipe's options are a table `[atc]` in a TOML file beside it; the files that they name lie there too. Its precision
is not among them: that is an axis of sweeps.
"""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from npuq.atc_files import read_file
from npuq.atc_options import FILE_OPTIONS, GEAR_OPTIONS, AtcOptions, read_options
from npuq.atc_shapes import OPEN, Dimension, is_open
from npuq.errors import InvalidRequestError
from npuq.precision import Precision
from tasks.protocols import Recipe, SuggestsAtcOptions, TensorSpec

_IMAGE_RANK: Final = len("NCHW")
_HEIGHT_AXIS: Final = "NCHW".index("H")
_NOT_A_RECIPES: Final = frozenset({"precision_mode", "precision_mode_v2", "input_shape", "log"})

Shapes = Mapping[str, tuple[Dimension, ...]]


@dataclass(frozen=True, kw_only=True)
class RecipeTable:
    """A recipe's own options, and option -> file for those that hold one."""

    options: AtcOptions = field(default_factory=AtcOptions)
    files: Mapping[str, Path] = field(default_factory=dict)


def recipe_table(recipe: Recipe) -> RecipeTable:
    """Return what a recipe says of ATC, nothing for most.

    Raises:
        InvalidRequestError: the table or a file of it is wrong: a mistake of the recipe's author.
    """
    if not isinstance(recipe, SuggestsAtcOptions):
        return RecipeTable()
    path = recipe.atc_table
    try:
        document = tomllib.loads(path.read_text("utf-8"))
        table: dict[str, Any] = document.pop("atc")
        wrong = sorted(document.keys() | (table.keys() & _NOT_A_RECIPES))
    except (OSError, tomllib.TOMLDecodeError, KeyError, AttributeError) as error:
        raise InvalidRequestError(f"{path} is no TOML file with a table [atc]: {error!r}") from error
    if wrong:
        raise InvalidRequestError(f"{path}: {', '.join(wrong)} cannot be given by a recipe")
    files = {option: path.parent / Path(str(table[option])).name for option in FILE_OPTIONS if option in table}
    digests = {option: hashlib.sha256(read_file(option, file).encode()).hexdigest() for option, file in files.items()}
    return RecipeTable(options=read_options(table | digests), files=files)


def merged(own: AtcOptions, recipes: AtcOptions, precision: Precision) -> AtcOptions:
    """Return the options of a conversion: the person's over the recipe's.

    A recipe's mix list counts for mixed precision only, and its gears only where the person names none.

    Raises:
        InvalidRequestError: the two do not go together, or not with the precision.
    """
    base = recipes.to_json()
    if precision is not Precision.MIXED:
        base.pop("modify_mixlist", None)
    if own.gears is not None:
        for option in GEAR_OPTIONS:
            base.pop(option, None)
    result = read_options(base | own.to_json())
    try:
        result.check_precision(precision)
    except ValueError as error:
        raise InvalidRequestError(f"ATC options: {error}") from error
    return result


def input_shapes(inputs: Sequence[TensorSpec], batch_size: int, options: AtcOptions) -> Shapes:
    """Return the shapes for `--input_shape`: the person's, or the recipe's, open where gears decide.

    Args:
        inputs: of the recipe.
        batch_size: for inputs without gears.
        options: of the conversion.

    Raises:
        InvalidRequestError: an option names an input that the recipe lacks, or gears and shapes contradict each other.
    """
    _check_names([tensor.name for tensor in inputs], options)
    given: Shapes = options.shapes or {tensor.name: tensor.at_batch(batch_size) for tensor in inputs}
    if not options.shapes and options.gears is not None:
        given = {name: _opened(shape, options.gears) for name, shape in given.items()}
    _check_gears(given, options)
    return given


def check_fed(shapes: Shapes, inputs: Sequence[TensorSpec], batch_size: int) -> None:
    """Refuse shapes that a model cannot be executed with; raises InvalidRequestError.

    Args:
        shapes: of the conversion, without gears.
        inputs: of the recipe.
        batch_size: of the batches that are fed.
    """
    ranges = [name for name, shape in shapes.items() if any(map(is_open, shape))]
    if ranges:
        raise InvalidRequestError(
            f"input_shape leaves sizes of {', '.join(ranges)} open, which goes with convert only: write numbers, or "
            "use dynamic_batch_size without input_shape"
        )
    first = shapes.get(inputs[0].name)
    if first is not None and first[0] != batch_size:
        raise InvalidRequestError(f"input_shape is for batch size {first[0]}, the run asks for {batch_size}")


def _check_names(inputs: Sequence[str], options: AtcOptions) -> None:
    """Refuse names of inputs that a recipe's models do not have; ATC would, but only on a host and much later."""
    named = {"input_shape": options.shapes, "input_fp16_nodes": options.input_fp16_nodes or ()}
    for option, names in named.items():
        unknown = [name for name in names if name not in inputs]
        if unknown:
            raise InvalidRequestError(
                f"{option}: the recipe has no input {', '.join(unknown)}; its inputs are {', '.join(inputs)}"
            )


def _opened(shape: tuple[Dimension, ...], gears: str) -> tuple[Dimension, ...]:
    match gears:
        case "dynamic_batch_size":
            return (OPEN, *shape[1:])
        case "dynamic_image_size" if len(shape) == _IMAGE_RANK:
            return (*shape[:_HEIGHT_AXIS], OPEN, OPEN)
        case _:
            return shape


def _check_gears(shapes: Shapes, options: AtcOptions) -> None:
    if options.gears is None:
        return
    open_axes = [(name, axis) for name, shape in shapes.items() for axis, size in enumerate(shape) if is_open(size)]
    if any(isinstance(size, str) for shape in shapes.values() for size in shape):
        raise InvalidRequestError(f"{options.gears}: write -1 in input_shape where a gear decides, not a range")
    axes = {axis for _, axis in open_axes}
    if options.dynamic_dims is not None:
        wanted = len(options.dynamic_dims[0])
        if len(open_axes) != wanted:
            raise InvalidRequestError(
                f"dynamic_dims: each gear has {wanted} values, but input_shape has {len(open_axes)} times -1"
            )
    elif options.dynamic_batch_size is not None and axes != {0}:
        raise InvalidRequestError("dynamic_batch_size: the first dimension of input_shape is -1, and no other")
    elif options.dynamic_image_size is not None and axes != {_HEIGHT_AXIS, _HEIGHT_AXIS + 1}:
        raise InvalidRequestError("dynamic_image_size: height and width of input_shape are -1, and nothing else")
