"""Reads the four .mat files of WIDER FACE's validation set: which images there are, their faces, which of them count.

All four list the same events and files in the same order. `wider_face_val.mat` has the boxes, and each of the others
the numbers, from 1, of the faces that count for one difficulty; in one byte each, or in two where an image has more
than 255. Lists are joined by position, so files that do not list the same are refused.

Files come from users: nothing in them is run or unpickled (`tasks.mat_files`), and what they say is checked.
Registering a dataset comes through here, on a laptop too: numpy and scipy are imported when a file is read.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from npuq.errors import DatasetError
from tasks import mat_files
from tasks.protocols import WIDER_DIFFICULTIES

if TYPE_CHECKING:
    from tasks.protocols import Array, WiderFaces

FACE_FILE: Final = "wider_face_val.mat"
#: Difficulty -> its file.
DIFFICULTY_FILES: Final[Mapping[str, str]] = {name: f"wider_{name}_val.mat" for name in WIDER_DIFFICULTIES}
FILES: Final = (FACE_FILE, *DIFFICULTY_FILES.values())
#: The official ones have 0.4 MB.
MAX_BYTES: Final = 32 * 2**20
_NUMBERS: Final = "iuf"  # kinds of arrays: integers and floats
_NAME: Final = re.compile(r"[^\W.][\w.-]*")


def parse_image_ids(content: bytes, path: str = FACE_FILE) -> tuple[str, ...]:
    """Return the ids of the images in a file's own order: event and stem, as in `0--Parade/0_Parade_Parade_0_628`.

    Args:
        content: of any of the four files.
        path: its name, for errors.

    Raises:
        DatasetError: naming the file: it is damaged, lists an image twice, none, or one whose name is no file's.
        ToolMissingError: scipy is not installed.
    """
    return tuple(_image_ids(_load(content, path, "event_list", "file_list"), path))


def parse(contents: Mapping[str, bytes]) -> dict[str, "WiderFaces"]:
    """Read the four files.

    Args:
        contents: name, as in `FILES` -> content.

    Returns:
        Image id -> faces, in the order of the files.

    Raises:
        DatasetError: naming the file: it is missing, damaged, or does not fit the others.
        ToolMissingError: scipy is not installed.
    """
    from tasks.protocols import WiderFaces

    for name in FILES:
        if name not in contents:
            raise DatasetError(f"The ground truth {name} is missing. It is in the official eval_tools.zip.")
    variables = _load(contents[FACE_FILE], FACE_FILE, "event_list", "file_list", "face_bbx_list")
    image_ids = _image_ids(variables, FACE_FILE)
    boxes = _boxes(_per_image(variables, "face_bbx_list", FACE_FILE), image_ids)
    counted = {
        difficulty: _counted(contents[name], name, image_ids, boxes) for difficulty, name in DIFFICULTY_FILES.items()
    }
    return {
        image_id: WiderFaces(boxes=boxes[place], counted={name: masks[place] for name, masks in counted.items()})
        for place, image_id in enumerate(image_ids)
    }


def _boxes(cells: Sequence["Array"], image_ids: Sequence[str]) -> list["Array"]:
    """Return the faces of each image, x y width height: float64 (N, 4)."""
    import numpy as np

    for cell, image_id in zip(cells, image_ids, strict=True):
        if cell.dtype.kind not in _NUMBERS or (cell.size and (cell.ndim, cell.shape[-1]) != (2, 4)):
            raise _damaged(FACE_FILE, f"the faces of {image_id} have no four numbers each")
    boxes = [cell.reshape(-1, 4).astype(np.float64) for cell in cells]
    broken = np.flatnonzero(~np.isfinite(np.concatenate(boxes)).all(axis=1))
    if len(broken):
        of_image = np.repeat(np.arange(len(boxes)), [len(rows) for rows in boxes])
        raise _damaged(FACE_FILE, f"a face of {image_ids[of_image[broken[0]]]} has what is no number")
    return boxes


def _counted(content: bytes, path: str, image_ids: Sequence[str], boxes: Sequence["Array"]) -> list["Array"]:
    """Return, for each image, which of its faces are in the lists of a file: bool (N,)."""
    import numpy as np

    variables = _load(content, path, "event_list", "file_list", "gt_list")
    _refuse_others(_image_ids(variables, path), image_ids, path)
    cells = _per_image(variables, "gt_list", path)
    for cell, image_id in zip(cells, image_ids, strict=True):
        if cell.dtype.kind not in _NUMBERS:
            raise _damaged(path, f"the list of {image_id} has what is no number")
    # As float64, which holds every number of these files: one byte ends at 255, and may have other bytes beside it.
    numbers = np.concatenate([cell.ravel().astype(np.float64) for cell in cells])
    of_image = np.repeat(np.arange(len(cells)), [cell.size for cell in cells])
    faces = np.array([len(rows) for rows in boxes])
    fits = (numbers >= 1) & (numbers <= faces[of_image]) & (numbers == np.rint(numbers))
    if not fits.all():
        image = of_image[~fits][0]
        raise _damaged(path, f"the list of {image_ids[image]} is not of its faces in {FACE_FILE}, 1 to {faces[image]}")
    firsts = np.cumsum(faces) - faces
    rows, times = np.unique(firsts[of_image] + numbers.astype(np.int64) - 1, return_counts=True)
    if (times > 1).any():
        image = np.searchsorted(firsts, rows[times > 1][0], side="right") - 1
        raise _damaged(path, f"the list of {image_ids[image]} has a face twice")
    mask = np.zeros(int(faces.sum()), dtype=bool)
    mask[rows] = True
    return [mask[first : first + count] for first, count in zip(firsts, faces, strict=True)]


def _refuse_others(listed: Sequence[str], image_ids: Sequence[str], path: str) -> None:
    if list(listed) == list(image_ids):
        return
    first = next((pair for pair in zip(listed, image_ids, strict=False) if pair[0] != pair[1]), None)
    how = f"{len(listed)} images, not {len(image_ids)}" if first is None else f"{first[0]} where that has {first[1]}"
    raise _damaged(path, f"it does not fit {FACE_FILE}: it lists {how}")


def _load(content: bytes, path: str, *names: str) -> dict[str, "Array"]:
    if len(content) > MAX_BYTES:
        raise _damaged(path, f"it has {len(content)} bytes")
    try:
        return mat_files.read(content, *names)
    except ValueError as error:
        raise _damaged(path, str(error)) from error


def _image_ids(variables: Mapping[str, "Array"], path: str) -> list[str]:
    events = [_text(cell, path) for cell in _cells(variables["event_list"], "event_list", path)]
    folders = _cells(variables["file_list"], "file_list", path)
    if len(folders) != len(events):
        raise _damaged(path, f"it has {len(events)} events and the files of {len(folders)}")
    image_ids = [
        f"{event}/{_text(cell, path)}"
        for event, folder in zip(events, folders, strict=True)
        for cell in _cells(folder, "file_list", path)
    ]
    doubled = [image_id for image_id, count in Counter(image_ids).items() if count > 1]
    if doubled:
        raise _damaged(path, f"it lists {doubled[0]} twice")
    if not image_ids:
        raise _damaged(path, "it lists no image")
    return image_ids


def _per_image(variables: Mapping[str, "Array"], name: str, path: str) -> list["Array"]:
    """Return the cells of a list that has one per image, event by event, as the list of files has."""
    folders, files = (_cells(variables[each], each, path) for each in (name, "file_list"))
    if [folder.size for folder in folders] != [folder.size for folder in files]:
        raise _damaged(path, f"its {name} does not have an entry for each file of each event")
    return [cell for folder in folders for cell in _cells(folder, name, path)]


def _cells(value: "Array", name: str, path: str) -> list["Array"]:
    """Return the arrays that a cell array holds, (N, 1) or (1, N); an empty one may be of any kind."""
    import numpy as np

    cells = value.ravel().tolist() if value.dtype == object else []
    if len(cells) != value.size or not all(isinstance(cell, np.ndarray) for cell in cells):
        raise _damaged(path, f"its {name} is no list of lists")
    return cells


def _text(cell: "Array", path: str) -> str:
    text = str(cell.item()) if cell.size == 1 else ""
    if _NAME.fullmatch(text) is None:
        raise _damaged(path, f"it lists {text[:60]!r}, which is the name of no file")
    return text


def _damaged(path: str, how: str) -> DatasetError:
    return DatasetError(f"The ground truth {path} cannot be used: {how}. Replace it with the original.")
