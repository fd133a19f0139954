"""ATC's way to write input shapes: `image:1,3,224,224;mask:-1,10`, a name, a colon, and its dimensions. Pure.

A dimension is a number, -1 (open) or a range such as `1~8`.
"""

import re
from typing import Final

MAX_INPUTS: Final = 64
MAX_RANK: Final = 8
MAX_SIZE: Final = 2**31 - 1
OPEN: Final = -1
Dimension = int | str
"""A size from 1, -1, or a range written `low~high` (high may be -1: no limit)."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./:-]{0,199}")
_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_RANGE: Final = re.compile(r"([0-9]{1,10})~([0-9]{1,10}|-1)")


def parse_shapes(text: str) -> dict[str, tuple[Dimension, ...]]:
    """Return input name -> dimensions; raises ValueError that says what is wrong where."""
    shapes: dict[str, tuple[Dimension, ...]] = {}
    for part in text.strip().removesuffix(";").split(";"):
        name, colon, sizes = part.strip().rpartition(":")
        if not colon or not _NAME.fullmatch(name):
            raise ValueError(f"{part!r}: write NAME:1,3,224,224, and several inputs separated by semicolons")
        if name in shapes:
            raise ValueError(f"input {name!r} is named twice")
        shapes[name] = tuple(_dimension(size.strip()) for size in sizes.split(","))
        if len(shapes[name]) > MAX_RANK:
            raise ValueError(f"input {name!r} has more than {MAX_RANK} dimensions")
    if len(shapes) > MAX_INPUTS:
        raise ValueError(f"more than {MAX_INPUTS} inputs")
    return shapes


def is_open(dimension: Dimension) -> bool:
    """Tell whether a dimension is left to the gear or to what is fed."""
    return dimension == OPEN or isinstance(dimension, str)


def _dimension(text: str) -> Dimension:
    if text == str(OPEN):
        return OPEN
    if _NUMBER.fullmatch(text) and 1 <= int(text) <= MAX_SIZE:
        return int(text)
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a dimension: a number from 1, -1, or a range such as 1~8")
    low, high = int(found.group(1)), int(found.group(2))
    if low < 1 or (high != OPEN and not low <= high <= MAX_SIZE):
        raise ValueError(f"{text!r} is an empty range")
    return text
