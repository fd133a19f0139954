"""The sizes of EfficientDet-D0's input and maps. Numbers only: planning needs them, without numpy or torch."""

from typing import Final

SIDE: Final = 512  #: pixels of both sides of the input
STRIDES: Final = (8, 16, 32, 64, 128)  #: pixels from one cell to the next, levels 3 to 7
FIRST_LEVEL: Final = 3
ANCHORS_PER_CELL: Final = 9
CLASSES: Final = 90  #: COCO's category ids 1 to 90, holes and all
CODES: Final = 4  #: of a box
