"""What the recipe promises at its seams, beside the golden numbers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npuq.errors import DatasetError
from tasks import registry
from tasks.protocols import Array, Detections
from tasks.recipes.ssd_mobilenetv2 import priors

RECIPE = registry.get("ssd_mobilenetv2")
META = {"width": 200, "height": 100}


def outputs(rows: list[tuple[int, float, tuple[float, ...]]], *, dtype: str = "float32") -> list[Array]:
    """Return raw outputs of one picture, where row k has a score for a class, and a box; the rest is background."""
    scores, boxes = np.zeros((1, 3000, 21), dtype), np.zeros((1, 3000, 4), dtype)
    scores[..., 0] = 1
    for place, (label, score, box) in enumerate(rows):
        scores[0, place, label], boxes[0, place] = score, box
    return [scores, boxes]


def detect(rows: list[tuple[int, float, tuple[float, ...]]], *, dtype: str = "float32") -> Detections:
    """Return what the recipe makes of them."""
    (prediction,) = RECIPE.postprocess(outputs(rows, dtype=dtype), [META])
    assert isinstance(prediction, Detections)
    return prediction


def test_priors_are_where_the_published_weights_expect_them() -> None:
    """Order, counts and clamping; an error here shifts every box."""
    table = priors.priors()
    assert table.shape == (3000, 4)
    assert [level.priors for level in priors.LEVELS] == [2166, 600, 150, 54, 24, 6]
    np.testing.assert_allclose(table[0], [0.0266667, 0.0266667, 0.2, 0.2], atol=1e-6)
    np.testing.assert_allclose(table[1, 2:], [0.2645751, 0.2645751], atol=1e-6)
    np.testing.assert_allclose(table[2:4, 2:], [[0.2828427, 0.1414214], [0.1414214, 0.2828427]], atol=1e-6)
    np.testing.assert_allclose(table[6, :2], [0.08, 0.0266667], atol=1e-6)  # the next column, not the next row
    np.testing.assert_allclose(table[-1], [0.5, 0.5, 0.5484828, 1.0], atol=1e-6)
    assert [(table[:, column] == 1).sum() for column in range(4)] == [60, 60, 20, 20]
    assert table.max() == 1


def test_boxes_come_out_in_pixels_and_are_not_clipped() -> None:
    """The evaluation of the guide takes them as they are."""
    found = detect([(7, 0.5, (-0.25, 0.5, 0.5, 1.25))])
    assert found.boxes.tolist() == [[-50.0, 50.0, 100.0, 125.0]]
    assert (found.labels.tolist(), found.scores.tolist()) == ([7], [0.5])


def test_score_must_exceed_the_threshold() -> None:
    """0.01 itself does not, the next number of float32 does."""
    just_above = float(np.nextafter(np.float32(0.01), np.float32(1)))
    found = detect([(1, 0.01, (0, 0, 1, 1)), (2, just_above, (0, 0, 1, 1))])
    assert found.labels.tolist() == [2]


@pytest.mark.parametrize("rows", [[], [(1, float("nan"), (0.0, 0.0, 1.0, 1.0))]])
def test_picture_without_a_detection_has_empty_arrays(rows: list[tuple[int, float, tuple[float, ...]]]) -> None:
    """Where the guide's script stops with an error."""
    found = detect(rows)
    assert (found.boxes.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))
    assert (str(found.boxes.dtype), str(found.scores.dtype), str(found.labels.dtype)) == ("float32", "float32", "int64")


def test_suppression_looks_at_the_best_two_hundred_of_a_class() -> None:
    """Boxes side by side: none is removed, and the 201st is not looked at; another class has its own two hundred."""
    boxes: list[tuple[float, ...]] = [(place / 500, 0.0, (place + 1) / 500, 0.2) for place in range(250)]
    rows = [(label, 0.5 + place / 1000, box) for label in (3, 9) for place, box in enumerate(boxes)]
    found = detect(rows)
    assert [int((found.labels == label).sum()) for label in (3, 9)] == [200, 200]
    assert found.scores.min() == np.float32(0.5 + 50 / 1000)


def test_suppression_is_per_class_and_keeps_an_overlap_of_045() -> None:
    """Above the threshold the worse one goes; the epsilon works on normalised boxes."""
    whole, part, less = (0.0, 0.0, 0.5, 0.5), (0.0, 0.0, 0.5, 0.24), (0.0, 0.0, 0.5, 0.22)
    found = detect([(1, 0.9, whole), (1, 0.8, part), (1, 0.7, less), (2, 0.6, whole)])
    assert list(zip(found.labels.tolist(), np.round(found.scores, 2).tolist(), strict=True)) == [
        (1, pytest.approx(0.9)),
        (1, pytest.approx(0.7)),
        (2, pytest.approx(0.6)),
    ]


def test_equal_scores_keep_the_order_of_the_priors() -> None:
    """What has no order upstream has a fixed one here."""
    found = detect([(5, 0.5, (0.0, 0.0, 0.1, 0.1)), (5, 0.5, (0.01, 0.0, 0.11, 0.1)), (5, 0.5, (0.5, 0.5, 0.6, 0.6))])
    assert found.boxes[:, 0].tolist() == [0.0, 100.0]


def test_half_precision_outputs_are_taken_as_they_are() -> None:
    """A model may be converted with float16 outputs."""
    found = detect([(4, 0.5, (0.25, 0.25, 0.5, 0.5))], dtype="float16")
    assert found.boxes.tolist() == [[50.0, 25.0, 100.0, 50.0]]
    assert str(found.scores.dtype) == "float32"


def test_padding_rows_of_a_batch_are_dropped() -> None:
    """A last batch of one in a model of three gives one prediction."""
    scores, boxes = outputs([(1, 0.9, (0, 0, 1, 1))])
    assert len(RECIPE.postprocess([np.repeat(scores, 3, axis=0), np.repeat(boxes, 3, axis=0)], [META])) == 1


def test_predictions_outlive_the_chips_buffer() -> None:
    """The runtime reuses its output buffers; what was predicted from them stays."""
    buffers = outputs([(1, 0.5, (0, 0, 1, 1))])
    (prediction,) = RECIPE.postprocess(buffers, [META])
    for buffer in buffers:
        buffer[:] = 0
    assert isinstance(prediction, Detections)
    assert (prediction.scores.tolist(), prediction.boxes.tolist()) == ([0.5], [[0.0, 0.0, 200.0, 100.0]])


def test_only_pass_is_its_own_merge() -> None:
    """One pass: nothing to merge."""
    prediction = detect([])
    assert RECIPE.passes == ("main",)
    assert RECIPE.merge({"main": prediction}) is prediction


def test_network_is_handed_over_in_eval_mode() -> None:
    """BatchNorm uses its statistics, so batches do not influence each other."""
    assert not any(module.training for module in RECIPE.network().modules())


def gradient(width: int, height: int) -> Image.Image:
    """Return a picture in which no two places are alike."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=2).astype(np.uint8))


def rotated_by_exif(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    gradient(80, 40).save(path, "JPEG", exif=exif)


@pytest.mark.parametrize(
    ("write", "size"),
    [
        pytest.param(lambda path: gradient(5, 11).save(path, "PNG"), (5, 11), id="tiny"),
        pytest.param(lambda path: gradient(1, 1).save(path, "PNG"), (1, 1), id="one pixel"),
        pytest.param(lambda path: gradient(10_000, 3).save(path, "PNG"), (10_000, 3), id="very wide"),
        pytest.param(lambda path: gradient(31, 57).convert("L").save(path, "JPEG"), (31, 57), id="grey"),
        pytest.param(lambda path: gradient(31, 57).convert("CMYK").save(path, "JPEG"), (31, 57), id="CMYK"),
        pytest.param(lambda path: gradient(31, 57).convert("RGBA").save(path, "PNG"), (31, 57), id="alpha"),
        pytest.param(lambda path: gradient(31, 57).quantize(16).save(path, "PNG"), (31, 57), id="palette"),
        pytest.param(rotated_by_exif, (80, 40), id="EXIF rotation is ignored"),
    ],
)
def test_any_picture_becomes_a_square(tmp_path: Path, write: Callable[[Path], None], size: tuple[int, int]) -> None:
    """Values are what Pillow says of the picture as RGB, squeezed and centred."""
    path = tmp_path / "picture"
    write(path)
    sample = RECIPE.preprocess(path)
    assert sample.meta == {"width": size[0], "height": size[1]}
    assert (sample.array.shape, str(sample.array.dtype)) == ((3, 300, 300), "float32")
    assert sample.array.flags.c_contiguous
    with Image.open(path) as image:
        squeezed = np.asarray(image.convert("RGB").resize((300, 300), Image.Resampling.BILINEAR), dtype=np.float64)
    np.testing.assert_array_equal(sample.array.transpose(1, 2, 0), (squeezed - 127) / 128)


@pytest.mark.parametrize("cut", [0, 200])
def test_damaged_picture_names_itself(tmp_path: Path, cut: int) -> None:
    """It fails its own job, and shifts no other sample."""
    path = tmp_path / "000042.jpg"
    gradient(64, 64).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DatasetError, match=r"000042\.jpg"):
        RECIPE.preprocess(path)
