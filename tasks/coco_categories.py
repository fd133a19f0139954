"""The 80 object categories of COCO: names, and the two ways of numbering them.

Annotations number them 1 to 90 with ten holes (`CATEGORY_IDS`); networks trained on exactly the 80 have classes 0 to 79
without holes, in the same order (`CATEGORY_NAMES`). Labels of predictions in npuq are always the annotations' own ids.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tasks.protocols import Array

#: Category id -> name, in the order of the ids, as in instances_val2017.json.
CATEGORIES: Final[dict[int, str]] = {
    1: "person",
    2: "bicycle",
    3: "car",
    4: "motorcycle",
    5: "airplane",
    6: "bus",
    7: "train",
    8: "truck",
    9: "boat",
    10: "traffic light",
    11: "fire hydrant",
    13: "stop sign",
    14: "parking meter",
    15: "bench",
    16: "bird",
    17: "cat",
    18: "dog",
    19: "horse",
    20: "sheep",
    21: "cow",
    22: "elephant",
    23: "bear",
    24: "zebra",
    25: "giraffe",
    27: "backpack",
    28: "umbrella",
    31: "handbag",
    32: "tie",
    33: "suitcase",
    34: "frisbee",
    35: "skis",
    36: "snowboard",
    37: "sports ball",
    38: "kite",
    39: "baseball bat",
    40: "baseball glove",
    41: "skateboard",
    42: "surfboard",
    43: "tennis racket",
    44: "bottle",
    46: "wine glass",
    47: "cup",
    48: "fork",
    49: "knife",
    50: "spoon",
    51: "bowl",
    52: "banana",
    53: "apple",
    54: "sandwich",
    55: "orange",
    56: "broccoli",
    57: "carrot",
    58: "hot dog",
    59: "pizza",
    60: "donut",
    61: "cake",
    62: "chair",
    63: "couch",
    64: "potted plant",
    65: "bed",
    67: "dining table",
    70: "toilet",
    72: "tv",
    73: "laptop",
    74: "mouse",
    75: "remote",
    76: "keyboard",
    77: "cell phone",
    78: "microwave",
    79: "oven",
    80: "toaster",
    81: "sink",
    82: "refrigerator",
    84: "book",
    85: "clock",
    86: "vase",
    87: "scissors",
    88: "teddy bear",
    89: "hair drier",
    90: "toothbrush",
}

#: Class of an 80-class network -> category id.
CATEGORY_IDS: Final[tuple[int, ...]] = tuple(CATEGORIES)
#: Class of an 80-class network -> name.
CATEGORY_NAMES: Final[tuple[str, ...]] = tuple(CATEGORIES.values())


def category_ids_of(classes: "Array") -> "Array":
    """Return int64 category ids (1 to 90) of the classes of an 80-class network (0 to 79), any shape.

    Raises:
        IndexError: a class is not one of the 80.
    """
    import numpy as np

    indices = np.asarray(classes)
    if indices.size and int(indices.min()) < 0:
        raise IndexError(f"class {int(indices.min())} is not one of the {len(CATEGORY_IDS)} (0 to 79)")
    ids: Array = np.array(CATEGORY_IDS, dtype=np.int64)[indices]
    return ids
