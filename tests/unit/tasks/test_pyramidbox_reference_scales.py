"""The test of the reference implementation: which sizes a picture is shown in, and what counts of each."""

from pathlib import Path
from typing import Final

import numpy as np
import pytest
from PIL import Image

from npuq.errors import DatasetError, InvalidRequestError
from tasks import registry
from tasks.protocols import Array, Detections, Prediction, PredictsAnySize
from tasks.recipes.pyramidbox import postprocess, priors, reference_scales

RECIPE: Final = registry.get("pyramidbox", {"test_scales": "reference"})


@pytest.mark.parametrize(
    ("height", "width", "shrunk", "enlarged"),
    [
        (1000, 1700, 0.5, [0.75]),
        (2000, 3400, 0.25, [0.375]),
        (1250, 1700, 0.5, [0.6972]),
        (1000, 1000, 0.5, [1.3038]),
        (500, 850, 0.5, [2.0]),
        (250, 425, 0.5, [2.0, 4.0]),
        (100, 100, 0.5, [2.0, 4.0, 8.0, 13.0384]),
    ],
)
def test_scales_are_the_references(height: int, width: int, shrunk: float, enlarged: list[float]) -> None:
    """Nothing exceeds 1.7 megapixels; small pictures are doubled until they come to it."""
    found = reference_scales.scales(height, width)
    plain = min(1.0, (1.7e6 / (height * width)) ** 0.5)
    assert tuple(found) == RECIPE.passes
    assert found["original"] == found["flipped"] == pytest.approx([plain])
    assert found["shrunk"] == pytest.approx([shrunk], abs=1e-4)
    assert found["enlarged"] == pytest.approx(enlarged, abs=1e-4)


class OneFace:
    """A network that sees one face, wherever the picture is brightest; keeps the sizes that it was shown."""

    def __init__(self, side: float) -> None:
        self.sizes: list[tuple[int, ...]] = []
        self._side = side

    def __call__(self, array: Array) -> list[Array]:
        """Return a box of `side` pixels of the original about the brightest pixel."""
        _, _, height, width = array.shape
        self.sizes.append((height, width))
        table = priors.priors(height, width)
        brightest = np.unravel_index(array[0].sum(axis=0).argmax(), (height, width))
        centre = (np.array([brightest[1], brightest[0]]) + 0.5) / (width, height)
        scores = np.tile(np.array([1, 0], dtype=np.float32), (1, len(table), 1))
        scores[0, 7] = 0.1, 0.9
        wanted = self._side * width / 400 / np.array([width, height])
        offset = (centre - table[7, :2]) / table[7, 2:] / priors.CENTRE_VARIANCE
        growth = np.log(wanted / table[7, 2:]) / priors.SIZE_VARIANCE
        locations = np.zeros((1, len(table), 4), dtype=np.float32)
        locations[0, 7] = [*offset, *growth]
        return [locations, scores]


def predict(folder: Path, network: OneFace) -> dict[str, list[list[float]]]:
    """Return the boxes that each pass finds on a picture of 400 x 300 with a bright patch about (100, 50)."""
    picture = np.zeros((300, 400, 3), dtype=np.uint8)
    picture[46:54, 96:104] = 255
    Image.fromarray(picture).save(folder / "picture.png")
    assert isinstance(RECIPE, PredictsAnySize)
    votes = RECIPE.predict_picture(folder / "picture.png", network)
    return {name: boxes_of(found).round().tolist() for name, found in votes.items()}


def boxes_of(found: Prediction) -> Array:
    """Return the boxes of detections."""
    assert isinstance(found, Detections)
    return found.boxes


def test_every_scale_finds_the_face_where_it_is(tmp_path: Path) -> None:
    """Sizes are those of the resized picture, without padding; boxes come back to the picture's pixels."""
    network = OneFace(side=60)
    found = predict(tmp_path, network)
    assert network.sizes == [(300, 400), (300, 400), (150, 200), (600, 800), (1129, 1506)]
    assert {name: len(boxes) for name, boxes in found.items()} == {
        "original": 1,
        "flipped": 1,
        "shrunk": 1,
        "enlarged": 2,
    }
    for boxes in found.values():
        np.testing.assert_allclose(boxes, [[70, 20, 130, 80]] * len(boxes), atol=6)


@pytest.mark.parametrize(("side", "counts"), [(20, (1, 1, 0, 2)), (150, (1, 1, 1, 0))])
def test_shrunk_pictures_show_large_faces_and_enlarged_ones_small_faces(
    side: float, counts: tuple[int, ...], tmp_path: Path
) -> None:
    """What the other scales find better does not count."""
    found = predict(tmp_path, OneFace(side=side))
    assert tuple(map(len, found.values())) == counts


def test_a_picture_too_small_to_shrink_is_not_shown_so(tmp_path: Path) -> None:
    """Where the reference stops, that scale says nothing."""
    Image.new("RGB", (60, 40)).save(tmp_path / "small.png")
    network = OneFace(side=10)
    assert isinstance(RECIPE, PredictsAnySize)
    votes = RECIPE.predict_picture(tmp_path / "small.png", network)
    assert len(boxes_of(votes["shrunk"])) == 0
    assert (20, 30) not in network.sizes
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"damaged\.png"):
        RECIPE.predict_picture(tmp_path / "damaged.png", network)


def test_pictures_are_shown_one_at_a_time(tmp_path: Path) -> None:
    """No two have the same size."""
    with pytest.raises(InvalidRequestError, match="one picture at a time"):
        RECIPE.export(None, tmp_path / "x.onnx", 2)  # type: ignore[arg-type]


def test_candidates_are_not_cut_to_the_guides_thousand_rows() -> None:
    """Its Detect hands out 5,000."""
    table = priors.priors(400, 400)
    scores = np.tile(np.array([0.4, 0.6], dtype=np.float32), (len(table), 1))
    locations = np.zeros((len(table), 4), dtype=np.float32)
    locations[:, 2:] = -10
    assert postprocess.ROWS < len(postprocess.decode_rows(locations, scores, table)) <= postprocess.CANDIDATES
