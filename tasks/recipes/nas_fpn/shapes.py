"""The sizes that the parts of the recipe agree on. Numbers only: planning reads them where no array library is."""

from typing import Final

CANVAS: Final = 640  #: pixels of both sides of the input
CLASSES: Final = 80
LEVELS: Final = (3, 4, 5, 6, 7)  #: of the pyramid; level n has a cell every 2**n pixels
ANCHORS_PER_CELL: Final = 9
BOX_VALUES: Final = 4


def side(level: int) -> int:
    """Return how many cells a row or column of a level has."""
    return CANVAS >> level
