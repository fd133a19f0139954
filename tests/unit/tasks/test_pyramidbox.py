"""PyramidBox beyond the golden data: what the scripts stop at, padding, options, and the sums in another way."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from npuq.errors import DatasetError, InvalidRequestError
from tasks import registry
from tasks.atc_request import recipe_table
from tasks.protocols import Array, Configurable, Detections
from tasks.recipes.pyramidbox import postprocess, preprocess, priors, result_files, shapes, voting

RECIPE = registry.get("pyramidbox")
META = {"width": 400, "height": 300}


def found(*rows: tuple[float, ...]) -> Detections:
    """Return a pass's votes: x1, y1, x2, y2, score each."""
    table = np.array(rows, dtype=np.float32).reshape(-1, 5)
    return Detections(boxes=table[:, :4], scores=table[:, 4], labels=np.ones(len(table), dtype=np.int64))


def merged(original: Detections, flipped: Detections) -> list[list[float]]:
    """Return the faces of two passes as rows, rounded."""
    faces = RECIPE.merge({"original": original, "flipped": flipped})
    assert isinstance(faces, Detections)
    assert faces.boxes.shape == (len(faces.scores), 4)
    assert faces.labels.tolist() == [1] * len(faces.scores)
    return [
        [round(float(value), 3) for value in (*box, score)]
        for box, score in zip(faces.boxes, faces.scores, strict=True)
    ]


BOX = (10.0, 10.0, 29.0, 29.0, 0.8)
APART = (100.0, 10.0, 119.0, 29.0, 0.6)


def test_boxes_that_overlap_elect_their_mean_weighed_by_score() -> None:
    """The greatest score, best first; boxes that stand alone are dropped."""
    faces = merged(found(BOX, APART), found((14.0, 10.0, 33.0, 29.0, 0.2)))
    assert faces == [[10.8, 10.0, 29.8, 29.0, 0.8]]


@pytest.mark.parametrize(
    ("original", "flipped", "expected"),
    [
        (found(), found(), []),
        (found(BOX, APART), found(), []),
        (found(), found(BOX, APART), []),
        (found(BOX), found(APART), []),
        (found(BOX), found(), [list(BOX)]),
        (found(), found(BOX), [list(BOX)]),
        (found(), found(BOX, BOX), [list(BOX)]),
    ],
)
def test_nothing_that_groups_is_no_error(
    original: Detections, flipped: Detections, expected: list[list[float]]
) -> None:
    """Where the script stops, there are no faces; a box that is the only one of all counts, as it has it."""
    np.testing.assert_allclose(np.array(merged(original, flipped)), np.array(expected), atol=1e-3)


def test_a_picture_has_at_most_750_faces() -> None:
    """The best ones."""
    grid = [
        (30.0 * (n % 40), 30.0 * (n // 40), 30.0 * (n % 40) + 9, 30.0 * (n // 40) + 9, 1 - n / 2000) for n in range(800)
    ]
    faces = merged(found(*grid), found(*grid))
    assert len(faces) == voting.MOST
    assert faces[-1][4] == pytest.approx(1 - 749 / 2000, abs=1e-3)


NUMBER = st.integers(0, 60).map(float)
ROWS = st.lists(
    st.tuples(NUMBER, NUMBER, st.integers(0, 40), st.integers(0, 40), st.integers(6, 100)).map(
        lambda row: (row[0], row[1], row[0] + row[2], row[1] + row[3], row[4] / 100)
    ),
    max_size=12,
    unique_by=lambda row: row[4],
)


@given(rows=ROWS)
def test_votes_are_counted_as_one_by_one(rows: list[tuple[float, ...]]) -> None:
    """Against plain loops over boxes."""
    expected = count_votes(sorted(rows, key=lambda row: -row[4])) if len(rows) > 1 else [list(row) for row in rows]
    faces = voting.vote([found(*rows)])
    ours = np.column_stack([faces.boxes, faces.scores])
    np.testing.assert_allclose(ours, np.array(expected).reshape(-1, 5), rtol=1e-4, atol=1e-4)


def count_votes(rows: list[tuple[float, ...]]) -> list[list[float]]:
    """Return the faces that rows elect, best first."""
    faces = []
    while rows:
        group = [row for row in rows if row is rows[0] or overlap(rows[0], row) >= voting.OVERLAP]
        if len(group) > 1:
            total = sum(row[4] for row in group)
            faces.append([sum(row[side] * row[4] for row in group) / total for side in range(4)] + [rows[0][4]])
        rows = [row for row in rows if row not in group]
    return faces


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return intersection over union of boxes that count both ends."""
    sides = [max(0.0, min(one[axis + 2], other[axis + 2]) - max(one[axis], other[axis]) + 1) for axis in (0, 1)]
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other)]
    return sides[0] * sides[1] / (sum(areas) - sides[0] * sides[1])


def rows_on_square(*sizes: float, longer: float) -> Array:
    """Return rows of faces with these sides in pixels, of a picture with that longer side, far apart."""
    starts = np.arange(len(sizes)) * 150.0
    corners = np.stack([starts, starts, starts + sizes, starts + sizes], axis=1) / longer
    return np.column_stack([np.full(len(sizes), 0.9), corners]).astype(np.float32)


@pytest.mark.parametrize(
    ("width", "height", "votes"),
    [(1699, 1000, [2, 3, 2]), (1700, 1000, [1, 3, 3]), (1701, 1000, [1, 3, 3])],
)
def test_size_says_how_often_a_face_of_the_first_pass_votes(width: int, height: int, votes: list[int]) -> None:
    """Once more if large; once more if small, or if large on a picture that is too large to be enlarged."""
    rows = rows_on_square(20, 60, 130, longer=max(width, height))
    original = postprocess.on_picture(rows, {"width": width, "height": height}, "original")
    starts = np.round(original.boxes[:, 0] / 150).astype(int)
    assert np.bincount(starts, minlength=3).tolist() == votes
    flipped = postprocess.on_picture(rows, {"width": width, "height": height}, "flipped")
    assert len(flipped.scores) == 3


def test_faces_of_the_mirrored_picture_are_mirrored_back() -> None:
    """About the picture's own width, not the square's."""
    rows = np.array([[0.5, 0.1, 0.2, 0.3, 0.4], [0.04, 0, 0, 1, 1]], dtype=np.float16)
    flipped = postprocess.on_picture(rows, META, "flipped")
    np.testing.assert_allclose(flipped.boxes, [[280, 80, 360, 160]], atol=0.2)


def outputs(batch: int, side: int) -> tuple[Array, Array]:
    """Return what a network says that finds nothing."""
    count = shapes.priors(side, side)
    scores = np.zeros((batch, count, 2), dtype=np.float32)
    scores[..., 0] = 1
    return np.zeros((batch, count, 4), dtype=np.float32), scores


def test_padding_is_dropped_and_nothing_is_found_where_nothing_is() -> None:
    """Rows past the metas are no samples."""
    recipe = registry.get("pyramidbox", {"side": "64"})
    locations, scores = outputs(3, 64)
    scores[0, 5] = 0.3, 0.7
    scores[2] = 0, 1
    first, second = recipe.postprocess([locations, scores], [META, META], "flipped")
    assert isinstance(first, Detections)
    assert isinstance(second, Detections)
    assert (len(first.scores), len(second.scores)) == (1, 0)
    scores[0, 5] = 0
    assert first.scores.tolist() == pytest.approx([0.7]), "what is kept is not the runtime's memory"


def test_broken_outputs_end_the_votes_too() -> None:
    """NaN scores are no candidates, and boxes that overflow are no faces."""
    locations, scores = outputs(1, 64)
    scores[0, :10] = np.nan
    locations[0, 20:40], scores[0, 20:40] = 1e6, (0, 1)
    locations[0, 50:60], scores[0, 50:60] = np.nan, (0, 1)
    recipe = registry.get("pyramidbox", {"side": "64"})
    (votes,) = recipe.postprocess([locations, scores], [META], "original")
    assert isinstance(votes, Detections)
    assert len(voting.vote([votes]).scores) == 0


@pytest.mark.parametrize(("width", "height"), [(1, 3000), (3000, 1), (64, 64), (3, 5)])
def test_any_picture_becomes_a_square(width: int, height: int, tmp_path: Path) -> None:
    """A very long one keeps a pixel of its short side, where the script stops."""
    Image.new("RGB", (width, height), (255, 0, 10)).save(tmp_path / "picture.png")
    for pass_name in RECIPE.passes:
        sample = preprocess.prepare(tmp_path / "picture.png", pass_name, 64)
        assert sample.array.shape == (3, 64, 64)
        assert sample.array[:, 0, 0].tolist() == [132, -117, -94]
        assert sample.meta == {"width": width, "height": height}


def test_padding_lies_right_and_below_in_both_passes(tmp_path: Path) -> None:
    """It is black before the mean comes off."""
    picture = np.zeros((20, 10, 3), dtype=np.uint8)
    picture[:, :5] = 200
    Image.fromarray(picture).save(tmp_path / "tall.png")
    original, flipped = (preprocess.prepare(tmp_path / "tall.png", name, 64).array[0] for name in RECIPE.passes)
    assert original[30, [2, 30, 40, 60]].tolist() == [77, -123, -123, -123]
    assert flipped[30, [2, 30, 40, 60]].tolist() == [-123, 77, -123, -123]


def test_damaged_picture_names_itself(tmp_path: Path) -> None:
    """As in every recipe."""
    (tmp_path / "0_Parade.jpg").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"0_Parade\.jpg"):
        RECIPE.preprocess(tmp_path / "0_Parade.jpg", "flipped")


def test_priors_cover_the_square_but_for_a_strip() -> None:
    """83,250 of them; pooling cut the third level's odd side."""
    table = priors.priors(1000, 1000)
    assert table.shape == (shapes.priors(1000, 1000), 4) == (83_250, 4)
    third = table[62_500 + 15_625 :][:3844]
    np.testing.assert_allclose(third[[0, -1], :2], [[0.008, 0.008], [0.984, 0.984]])
    assert third[0, 2] == pytest.approx(0.064)


def test_no_face_leaves_a_file_that_says_so() -> None:
    """The evaluators want one for each image."""
    assert result_files.text_of("0--Parade/0_Parade_1", found()) == "0--Parade/0_Parade_1.jpg\n0\n"
    assert str(result_files.path_of("0--Parade/0_Parade_1")) == "0--Parade/0_Parade_1.txt"


def test_options_change_the_recipe_and_name_what_differs_from_the_default() -> None:
    """A default that is typed is none, so that equal work is recognised."""
    assert isinstance(RECIPE, Configurable)
    assert RECIPE.chosen == {}
    same = registry.get("pyramidbox", {"upsampling": "align_corners", "side": "01000"})
    assert isinstance(same, Configurable)
    assert same.chosen == {}
    other = registry.get("pyramidbox", {"side": "320", "upsampling": "half_pixel"})
    assert isinstance(other, Configurable)
    assert other.chosen == {"side": "320", "upsampling": "half_pixel"}
    assert other.inputs[0].at_batch(1) == (1, 3, 320, 320)
    assert other.outputs[0].at_batch(1) == (1, 8534, 4)
    assert RECIPE.inputs[0].at_batch(1) == (1, 3, 1000, 1000)


@pytest.mark.parametrize(
    ("recipe", "options", "expected"),
    [
        ("pyramidbox", {"up-sampling": "x"}, "Did you mean 'upsampling'"),
        ("pyramidbox", {"upsampling": "nearest"}, "choose from align_corners, half_pixel"),
        ("pyramidbox", {"side": "10"}, "from 64 to"),
        ("pyramidbox", {"side": "-64"}, "from 64 to"),
        ("mobilenet_v1", {"side": "64"}, "Its options: none"),
    ],
)
def test_wrong_options_are_refused_with_what_there_is(recipe: str, options: dict[str, str], expected: str) -> None:
    """Before anything acts on them."""
    with pytest.raises(InvalidRequestError, match=expected):
        registry.get(recipe, options)


def test_atc_is_asked_for_nothing_but_full_precision() -> None:
    """The precision is an axis of runs: the recipe says which one it needs."""
    shown: dict[str, Any] = recipe_table(RECIPE).options.to_json()
    assert shown == {}
