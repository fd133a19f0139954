"""The .mat files of WIDER FACE are read whatever their corners, and refused with their name when they are damaged."""

import io
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from npuq.errors import DatasetError, ToolMissingError
from tasks import widerface_truth
from tasks.protocols import Array
from tasks.widerface_truth import FILES

EVENTS: dict[str, dict[str, Any]] = {
    "0--Parade": {"0_Parade_b_1": [[1, 2, 30, 40], [5, 6, 0, 0]], "0_Parade_a_2": [[7, 8, -2, 10]]},
    "10--People_Marching": {"10_People_m_3": [[number, 2, 3, 4] for number in range(300)], "10_People_m_4": []},
}
KEPT: dict[str, dict[str, Any]] = {
    "easy": {"0_Parade_b_1": [1]},
    "medium": {"0_Parade_b_1": [1], "10_People_m_3": [2, 299]},
    "hard": {"0_Parade_b_1": [1, 2], "0_Parade_a_2": [1], "10_People_m_3": list(range(1, 301))},
}
FACE, EASY, MEDIUM, HARD = FILES


def column(items: list[Any]) -> Array:
    """Return a cell array (N, 1)."""
    cells = np.empty((len(items), 1), dtype=object)
    for place, item in enumerate(items):
        cells[place, 0] = item
    return cells


def names() -> dict[str, Array]:
    return {
        "event_list": column(list(EVENTS)),
        "file_list": column([column(list(images)) for images in EVENTS.values()]),
    }


def boxes() -> Array:
    """Return the faces as the official file has them; where there is none, nothing of no shape."""
    return column(
        [
            column([np.array(rows, dtype=np.int32).reshape((-1, 4) if rows else (0, 0)) for rows in images.values()])
            for images in EVENTS.values()
        ]
    )


def numbers(difficulty: str) -> Array:
    """Return the lists as the official files have them: one byte or two, and empty ones of both shapes."""
    lists = []
    for place, images in enumerate(EVENTS.values()):
        kept = [KEPT[difficulty].get(stem, []) for stem in images]
        lists.append(
            column(
                [
                    np.array(of_image, dtype=np.uint16 if max(of_image, default=0) > 255 else np.uint8).reshape(
                        (-1, 1) if of_image else (0, place)
                    )
                    for of_image in kept
                ]
            )
        )
    return column(lists)


def mat(variables: Mapping[str, Any], *, compressed: bool = True) -> bytes:
    stream = io.BytesIO()
    savemat(stream, dict(variables), do_compression=compressed)
    return stream.getvalue()


@pytest.fixture
def files() -> dict[str, bytes]:
    """Return four good files."""
    return {
        FACE: mat(names() | {"face_bbx_list": boxes()}),
        **{name: mat(names() | {"gt_list": numbers(name.split("_")[1])}) for name in (EASY, MEDIUM, HARD)},
    }


def test_corners_of_the_official_files(files: dict[str, bytes]) -> None:
    """More than 255 faces, none, faces without a size or of a negative one, empty lists; in the file's own order."""
    truth = widerface_truth.parse(files)
    assert list(truth) == [f"{event}/{stem}" for event, images in EVENTS.items() for stem in images]
    assert tuple(truth) == widerface_truth.parse_image_ids(files[HARD])
    assert truth["0--Parade/0_Parade_b_1"].boxes.tolist() == [[1, 2, 30, 40], [5, 6, 0, 0]]
    assert truth["0--Parade/0_Parade_a_2"].boxes.tolist() == [[7, 8, -2, 10]]
    assert truth["10--People_Marching/10_People_m_4"].boxes.shape == (0, 4)
    for difficulty, lists in KEPT.items():
        for image_id, of_image in truth.items():
            found = (np.flatnonzero(of_image.counted[difficulty]) + 1).tolist()
            assert found == lists.get(image_id.split("/")[1], [])


def test_files_may_be_saved_otherwise(files: dict[str, bytes]) -> None:
    """Without compression, rows instead of columns, numbers as doubles: as another program would save them again."""
    rows = {name: value.T for name, value in names().items()}
    doubles = column([column([cell.astype(float) for cell in folder.ravel()]) for folder in numbers("hard").ravel()])
    files[HARD] = mat(rows | {"gt_list": doubles.T}, compressed=False)
    hard = widerface_truth.parse(files)["10--People_Marching/10_People_m_3"].counted["hard"]
    assert hard.all()


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(name: str, files: dict[str, bytes]) -> None:
    """With the archive that has it."""
    del files[name]
    with pytest.raises(DatasetError, match=rf"{name} is missing.*eval_tools\.zip"):
        widerface_truth.parse(files)


@pytest.mark.parametrize("name", FILES)
def test_damage_anywhere_is_told_with_the_name_of_the_file(name: str, files: dict[str, bytes]) -> None:
    """Cut short, emptied, bytes changed: whatever scipy stumbles over, an error of ours comes out."""
    content = files[name]
    generator = np.random.default_rng(0)
    damaged = [b"", content[:100], content[: len(content) // 2], b"PK\3\4" + content[4:], b"\0" * 4096]
    for _ in range(25):
        changed = bytearray(content)
        changed[int(generator.integers(128, len(content)))] ^= int(generator.integers(1, 256))
        damaged.append(bytes(changed))
    refusals = [refusal({**files, name: version}) for version in damaged]
    assert all(name in said for said in refusals if said)
    assert refusals.count("") <= 5


def refusal(files: Mapping[str, bytes]) -> str:
    """Return why files are refused; nothing when they are not."""
    try:
        widerface_truth.parse(files)
    except DatasetError as error:
        return error.info.message
    return ""


def replaced(variables: dict[str, Array], name: str, event: int, image: int, value: Any) -> dict[str, Array]:
    variables[name][event, 0][image, 0] = value
    return variables


def easy() -> dict[str, Array]:
    return names() | {"gt_list": numbers("easy")}


def face() -> dict[str, Array]:
    return names() | {"face_bbx_list": boxes()}


def without(variables: dict[str, Array], name: str) -> dict[str, Array]:
    return {key: value for key, value in variables.items() if key != name}


def with_events(variables: dict[str, Array], *events: str) -> dict[str, Array]:
    return variables | {"event_list": column(list(events))}


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        (EASY, lambda: without(easy(), "gt_list"), "it has no gt_list"),
        (FACE, lambda: without(face(), "event_list"), "it has no event_list"),
        (FACE, lambda: face() | {"file_list": np.zeros((2, 1))}, "its file_list is no list of lists"),
        (FACE, lambda: with_events(face(), "0--Parade"), "it has 1 events and the files of 2"),
        (FACE, lambda: with_events(face(), "..", "b"), r"lists '\.\.', which is the name of no file"),
        (FACE, lambda: replaced(face(), "file_list", 0, 0, "../../etc/passwd"), "the name of no file"),
        (FACE, lambda: replaced(face(), "file_list", 0, 1, "0_Parade_b_1"), "lists 0--Parade/0_Parade_b_1 twice"),
        (FACE, lambda: replaced(face(), "face_bbx_list", 0, 1, np.ones((2, 3))), "0_Parade_a_2 have no four numbers"),
        (FACE, lambda: replaced(face(), "face_bbx_list", 0, 1, np.full((1, 4), np.nan)), "a face of .*_a_2 has what"),
        (EASY, lambda: replaced(easy(), "file_list", 0, 1, "x"), "does not fit .* it lists 0--Parade/x where that has"),
        (
            EASY,
            lambda: replaced(easy(), "gt_list", 0, 0, np.array([[0]])),
            "0_Parade_b_1 is not of its faces .* 1 to 2",
        ),
        (
            EASY,
            lambda: replaced(easy(), "gt_list", 0, 0, np.array([[3]])),
            "0_Parade_b_1 is not of its faces .* 1 to 2",
        ),
        (EASY, lambda: replaced(easy(), "gt_list", 0, 0, np.array([[1.5]])), "is not of its faces"),
        (EASY, lambda: replaced(easy(), "gt_list", 0, 0, np.array([[np.nan]])), "is not of its faces"),
        (EASY, lambda: replaced(easy(), "gt_list", 0, 0, "one"), "the list of .*_b_1 has what is no number"),
        (EASY, lambda: replaced(easy(), "gt_list", 1, 0, np.array([[7], [7]])), "10_People_m_3 has a face twice"),
        (EASY, lambda: easy() | {"gt_list": numbers("easy")[:1]}, "gt_list does not have an entry for each file"),
    ],
)
def test_what_does_not_fit_is_said(
    name: str, make: Callable[[], dict[str, Array]], said: str, files: dict[str, bytes]
) -> None:
    """Names that lead elsewhere, and numbers that would silently count other faces."""
    files[name] = mat(make())
    with pytest.raises(DatasetError, match=rf"The ground truth {name} cannot be used: .*{said}"):
        widerface_truth.parse(files)


def test_file_of_another_event_order_is_refused(files: dict[str, bytes]) -> None:
    """Lists are joined by position."""
    files[MEDIUM] = mat(with_events(names() | {"gt_list": numbers("medium")}, *reversed(EVENTS)))
    with pytest.raises(DatasetError, match=f"{MEDIUM} .* does not fit {FACE}"):
        widerface_truth.parse(files)


def test_a_laptop_that_cannot_read_is_told_what_to_install(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scipy comes with the worker."""
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ToolMissingError, match=r"npuq\[worker\]"):
        widerface_truth.parse(files)


def test_oversized_file_is_not_read(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """No ground truth has that many bytes."""
    monkeypatch.setattr(widerface_truth, "MAX_BYTES", 64)
    with pytest.raises(DatasetError, match=f"{FACE} cannot be used: it has {len(files[FACE])} bytes"):
        widerface_truth.parse(files)
