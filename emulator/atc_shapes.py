"""Input shapes and gears of ATC's command line: read, and held against each other. Pure.

A dimension is a number, -1 or a range `low~high`. Open dimensions belong to the gears where there are any; without
gears the model is of dynamic shape.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from emulator.atc_errors import AtcError, invalid_value
from emulator.om import GearKind

OPEN: Final = -1
MIN_GEARS: Final = 2
MAX_GEARS: Final = 100
MAX_DIMS_RANK: Final = 4
_SAMPLE: Final = '"input_name1:n1,c1,h1,w1;input_name2:n2,c2,h2,w2"'
_RANGE: Final = re.compile(r"(\d+)~(\d+|-1)")
_IMAGE_RANK: Final = 4
_IMAGE_AXES: Final = frozenset({2, 3})


@dataclass(frozen=True, kw_only=True)
class InputShape:
    """A shape as written: -1 where it is open, and then (smallest, largest) per axis, largest -1: no limit."""

    sizes: tuple[int, ...]
    limits: tuple[tuple[int, int], ...] = ()

    @property
    def open_axes(self) -> tuple[int, ...]:
        """Return the axes that are left open."""
        return tuple(axis for axis, size in enumerate(self.sizes) if size == OPEN)

    def bound(self, values: Iterable[int]) -> tuple[int, ...]:
        """Return the shape with its open axes filled in order."""
        left = iter(values)
        return tuple(next(left) if size == OPEN else size for size in self.sizes)


@dataclass(frozen=True, kw_only=True)
class Gears:
    """The shapes that a model is compiled for: which flag, and its values in the command line's order."""

    kind: GearKind
    values: tuple[tuple[int, ...], ...]

    def bind(self, shapes: Mapping[str, InputShape], values: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return every input's shape for one gear."""
        left = iter(values)
        bound: dict[str, tuple[int, ...]] = {}
        for name, shape in shapes.items():
            count = len(shape.open_axes)
            # Batch and image size are the same for all inputs; of `dynamic_dims` each -1 has a value of its own.
            mine = [next(left) for _ in range(count)] if self.kind is GearKind.DIMS else values[:count]
            bound[name] = shape.bound(mine)
        return bound


def parse_shapes(text: str, flag: str = "input_shape") -> dict[str, InputShape]:
    """Return input name -> shape from `"name:1,3,224,224;other:-1,1~10"`; the name may hold colons.

    Raises:
        AtcError: E10002 for a malformed text, E10011 for a size that cannot be.
    """
    shapes: dict[str, InputShape] = {}
    for part in filter(None, text.strip().split(";")):
        name, colon, sizes = part.rpartition(":")
        if not (colon and name.strip() and sizes):
            raise invalid_value(f"--{flag}", text, f"correct sample is {_SAMPLE}.", "E10002")
        limits = tuple(_limits(size.strip(), text, flag) for size in sizes.strip("[] ").split(","))
        shape = tuple(low if low == high else OPEN for low, high in limits)
        shapes[name.strip()] = InputShape(sizes=shape, limits=limits if OPEN in shape else ())
    return shapes


def _limits(size: str, text: str, flag: str) -> tuple[int, int]:
    """Return the smallest and largest size of one dimension."""
    if size == str(OPEN):
        return 1, OPEN
    if size.removeprefix("-").isdecimal():
        if int(size) < 1:
            raise AtcError(
                "E10011",
                f"Value [{text}] for parameter [--{flag}] is invalid. Shape values must be positive integers. The "
                f"error value in the shape is [{size}].",
            )
        return int(size), int(size)
    found = _RANGE.fullmatch(size)
    low, high = (0, 0) if found is None else (int(found.group(1)), int(found.group(2)))
    if low < 1 or (high != OPEN and high < low):
        raise invalid_value(f"--{flag}", text, f"correct sample is {_SAMPLE}.", "E10002")
    return low, high


def parse_gears(flags: Mapping[str, str], shapes: Mapping[str, InputShape]) -> Gears | None:
    """Return the gears of a command line, None without; raises AtcError, also when the shapes do not go with them."""
    given = [kind for kind in GearKind if kind in flags]
    if len(given) + ("input_shape_range" in flags) > 1:
        raise AtcError(
            "E10009",
            "[--dynamic_batch_size, --dynamic_image_size, --input_shape_range, or --dynamic_dims] are mutually "
            "exclusive.",
        )
    if not given:
        return None
    (kind,) = given
    text = flags[kind]
    parts = text.split("," if kind is GearKind.BATCH else ";")
    values = tuple(_gear(part, kind, text) for part in parts if part.strip())
    _check_count(values)
    gears = Gears(kind=kind, values=values)
    _check_shapes(gears, shapes)
    return gears


def _gear(part: str, kind: GearKind, text: str) -> tuple[int, ...]:
    try:
        values = tuple(int(number) for number in part.split(","))
    except ValueError:
        raise invalid_value(f"--{kind}", text, "the values must be positive integers.", "E10014") from None
    if min(values) < 1:
        raise AtcError("E10038", f"Dimension size [{min(values)}] is invalid. The value must be greater than 0.")
    if kind is GearKind.IMAGE_SIZE and len(values) != len(_IMAGE_AXES):
        raise AtcError("E10020", f"Value [{text}] for parameter [--{kind}] is invalid.", "Write height,width;...")
    return values


def _check_count(values: tuple[tuple[int, ...], ...]) -> None:
    named = "[--dynamic_batch_size], [--dynamic_image_size], or [--dynamic_dims]"
    count = len(values)
    if count < MIN_GEARS:
        raise AtcError("E10035", f"{named} has [{count}] profiles, which is less than the minimum [{MIN_GEARS}].")
    if count > MAX_GEARS:
        raise AtcError("E10036", f"{named} has [{count}] profiles, which is greater than the maximum [{MAX_GEARS}].")
    for gear in values:
        if len(gear) != len(values[0]):
            sizes = f"A profile has [{len(values[0])}] dimensions while another has [{len(gear)}] dimensions."
            raise AtcError("E10037", f"The profiles of {named} have inconsistent dimension counts. {sizes}")
    if len(set(values)) != count:
        raise AtcError("E10039", f"The {named} argument have duplicate profiles.")


def _check_shapes(gears: Gears, shapes: Mapping[str, InputShape]) -> None:
    ranged = any(low != 1 or high != OPEN for shape in shapes.values() for low, high in shape.limits if low != high)
    open_axes = [(name, axis) for name, shape in shapes.items() for axis in shape.open_axes]
    if ranged or (not open_axes and gears.kind is not GearKind.BATCH):
        raise AtcError(
            "E10040",
            f"As the [--{gears.kind}] argument is included, the corresponding nodes specified in [--input_shape] must "
            "have -1 axes and cannot have '~'.",
        )
    axes = {axis for _, axis in open_axes}
    match gears.kind:
        case GearKind.BATCH:
            if 0 not in axes:
                raise AtcError(
                    "E10031",
                    "[--dynamic_batch_size] is included, but none of the nodes specified in [--input_shape] has a "
                    "batch size equaling -1.",
                )
            if axes != {0}:
                raise AtcError(
                    "E10018",
                    "When [--dynamic_batch_size] is included, only batch size N can be -1 in [--input_shape].",
                )
        case GearKind.IMAGE_SIZE:
            images = all(len(shapes[name].sizes) == _IMAGE_RANK for name, _ in open_axes)
            if axes != _IMAGE_AXES or not images:
                raise AtcError(
                    "E10019",
                    "When [--dynamic_image_size] is included, only the height and width axes can be -1 in "
                    "[--input_shape].",
                )
        case GearKind.DIMS:
            ranks = [len(shape.sizes) for shape in shapes.values()]
            if max(ranks) > MAX_DIMS_RANK:
                reason = f"Dim num must within [1, {MAX_DIMS_RANK}] when set dynamic_dims"
                raise invalid_value("--input_shape's dim", str(max(ranks)), reason)
            if len(open_axes) != len(gears.values[0]):
                raise AtcError(
                    "E10046",
                    f"The total number of -1 axes [{len(open_axes)}] in [--input_shape] differs from the dimension "
                    f"count per profile [{len(gears.values[0])}] in [--dynamic_dims].",
                )
