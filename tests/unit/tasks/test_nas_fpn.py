"""What NAS-FPN promises at its seams, and on pictures and outputs that golden data do not have."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from npuq.errors import DatasetError, InvalidRequestError
from tasks import coco_scores, registry
from tasks.coco_categories import CATEGORY_IDS
from tasks.protocols import Array, Detections, Prediction
from tasks.recipes.nas_fpn import NasFpn, guide_report, postprocess, shapes
from tasks.recipes.nas_fpn.anchors import anchors
from tests.unit.tasks.memory_coco import random_coco, random_detections

SIDES = [shapes.side(level) for level in shapes.LEVELS]
META = {"width": 640, "height": 640}


def noise(size: tuple[int, int]) -> Image.Image:
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def empty_maps(batch_size: int = 1) -> list[Array]:
    """Return heads that see nothing anywhere."""
    classes = [np.full((batch_size, 720, side, side), -9, dtype=np.float32) for side in SIDES]
    return [*classes, *(np.zeros((batch_size, 36, side, side), dtype=np.float32) for side in SIDES)]


def random_maps(seed: int, *, spread: float) -> list[Array]:
    """Return heads that see much of everything."""
    generator = np.random.default_rng(seed)
    classes = [generator.normal(-6, spread, (1, 720, side, side)).astype(np.float32) for side in SIDES]
    return [*classes, *(generator.normal(0, 0.7, (1, 36, side, side)).astype(np.float32) for side in SIDES)]


def plant(
    maps: Sequence[Array], *, level: int, x: int, y: int, anchor: int, label: int, logit: float, row: int = 0
) -> None:
    """Let one anchor see an object."""
    maps[level - 3][row, anchor * 80 + label, y, x] = logit


def detect(maps: Sequence[Array], *, count: int = 1) -> list[Detections]:
    found = registry.get("nas_fpn").postprocess(maps, [META] * count)
    return [each for each in found if isinstance(each, Detections)]


def restated(maps: Sequence[Array]) -> list[tuple[int, float, list[float]]]:
    """Return (class, score, box) of a batch of one by mmdetection's rules, one box at a time, in float64."""
    rows: list[tuple[int, float, list[float]]] = []
    for place, side in enumerate(SIDES):
        stride, best = 640 // side, []
        for y, x, anchor in np.ndindex(side, side, 9):
            best.append((float(maps[place][0, anchor * 80 : anchor * 80 + 80, y, x].max()), y, x, anchor))
        for _, y, x, anchor in sorted(best, reverse=True)[:1000]:
            ratio, scale = (0.5, 1.0, 2.0)[anchor // 3], 4 * 2 ** (anchor % 3 / 3)
            wide, high = stride * scale / ratio**0.5, stride * scale * ratio**0.5
            dx, dy, dw, dh = (float(maps[5 + place][0, anchor * 4 + value, y, x]) for value in range(4))
            limit = abs(np.log(16 / 1000))
            half_w = wide / 2 * np.exp(min(max(dw, -limit), limit))
            half_h = high / 2 * np.exp(min(max(dh, -limit), limit))
            middle_x, middle_y = x * stride + wide * dx, y * stride + high * dy
            edges = [middle_x - half_w, middle_y - half_h, middle_x + half_w, middle_y + half_h]
            box = [min(max(float(edge), 0.0), 640.0) for edge in edges]
            for label in range(80):
                score = 1 / (1 + np.exp(-float(maps[place][0, anchor * 80 + label, y, x])))
                if score > 0.05:
                    rows.append((label, score, box))
    rows.sort(key=lambda row: -row[1])
    kept: list[tuple[int, float, list[float]]] = []
    for row in rows:
        if not any(label == row[0] and overlap(box, row[2]) > 0.5 for label, _, box in kept):
            kept.append(row)
    return kept[:100]


def overlap(one: list[float], other: list[float]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(wide, 0) * max(high, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / union if (union := sum(areas) - shared) > 0 else 0.0


@pytest.mark.parametrize(("seed", "spread"), [(1, 0.8), (2, 1.1)])
def test_detections_follow_the_rules_stated_box_by_box(seed: int, spread: float) -> None:
    """Few and many candidates: the arrays say what a plain restatement says, the thousand of a level included."""
    maps = random_maps(seed, spread=spread)
    (found,) = detect(maps)
    expected = restated(maps)
    assert found.labels.tolist() == [CATEGORY_IDS[label] for label, _, _ in expected]
    np.testing.assert_allclose(found.scores, [score for _, score, _ in expected], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.boxes, [box for _, _, box in expected], rtol=0, atol=5e-3)


def test_first_anchors_are_the_published_ones() -> None:
    """Ratio before scale, centred on the corner of the cell, not rounded."""
    np.testing.assert_allclose(anchors(3)[0], [-22.6274, -11.3137, 22.6274, 11.3137], atol=1e-4)
    np.testing.assert_array_equal(anchors(3)[3], [-16, -16, 16, 16])
    np.testing.assert_array_equal(anchors(7)[9 * (5 * 2 + 1) + 3], [128 - 256, 256 - 256, 128 + 256, 256 + 256])
    assert sum(len(anchors(level)) for level in shapes.LEVELS) == 76_725


def test_object_is_found_where_its_anchor_lies() -> None:
    """One square anchor, class 79, moved by a quarter of its side and grown by half."""
    maps = empty_maps()
    plant(maps, level=4, x=20, y=10, anchor=3, label=79, logit=2.0)
    maps[6][0, 12:16, 10, 20] = [0.25, 0, np.log(1.5), 0]
    (found,) = detect(maps)
    np.testing.assert_allclose(found.boxes, [[336 - 48, 160 - 32, 336 + 48, 160 + 32]], atol=1e-3)
    assert (found.labels.tolist(), found.scores.tolist()) == ([90], pytest.approx([0.880797], abs=1e-6))
    assert [str(array.dtype) for array in (found.boxes, found.scores, found.labels)] == ["float32", "float32", "int64"]


def test_score_has_to_exceed_the_threshold() -> None:
    """0.05 itself is not enough."""
    maps = empty_maps()
    at_threshold = np.nextafter(np.float32(np.log(0.05 / 0.95)), np.float32(-10))
    plant(maps, level=5, x=3, y=3, anchor=0, label=0, logit=float(at_threshold))
    plant(maps, level=5, x=9, y=9, anchor=0, label=0, logit=-2.944)
    (found,) = detect(maps)
    assert len(found.scores) == 1
    assert found.scores[0] > np.float32(0.05)


def test_suppression_is_per_class_and_stable() -> None:
    """Of two equal boxes of a class the first stays, of two classes both; equal scores keep the order of anchors."""
    maps = empty_maps()
    for label in (4, 9):
        plant(maps, level=5, x=4, y=4, anchor=3, label=label, logit=1.0)
    plant(maps, level=5, x=4, y=4, anchor=4, label=4, logit=0.5)  # the next scale: overlaps by 0.63
    plant(maps, level=5, x=12, y=4, anchor=3, label=4, logit=1.0)
    (found,) = detect(maps)
    assert found.labels.tolist() == [5, 10, 5]
    assert found.boxes[:, 0].tolist() == [64, 64, 320]


def test_no_more_than_a_hundred_are_returned() -> None:
    """The cap is over all classes."""
    maps = empty_maps()
    for number in range(150):
        plant(maps, level=3, x=number % 75, y=number // 75 * 40, anchor=3, label=number % 80, logit=1 + number / 100)
    (found,) = detect(maps)
    assert len(found.scores) == 100
    assert found.scores.min() == pytest.approx(1 / (1 + np.exp(-1.5)), abs=1e-6)


def test_picture_without_detections_is_an_empty_prediction() -> None:
    """Empty arrays of the promised types, which scoring counts as an image like others."""
    (found,) = detect(empty_maps())
    assert [array.shape for array in (found.boxes, found.scores, found.labels)] == [(0, 4), (0,), (0,)]
    assert [str(array.dtype) for array in (found.boxes, found.scores, found.labels)] == ["float32", "float32", "int64"]


def test_each_sample_has_its_own_detections_and_padding_rows_none() -> None:
    """A last batch of two in a model of three."""
    maps = empty_maps(3)
    for row in range(3):
        plant(maps, level=6, x=row, y=5, anchor=3, label=row, logit=3.0, row=row)
    found = detect(maps, count=2)
    assert [each.labels.tolist() for each in found] == [[1], [2]]
    assert found[1].boxes[0, 0] == 0
    assert found[1].boxes[0, 2] == 64 + 128


def test_half_precision_outputs_are_read() -> None:
    """A chip may hand back float16."""
    maps = [array.astype(np.float16) for array in random_maps(3, spread=1.1)]
    (half,) = detect(maps)
    (single,) = detect([array.astype(np.float32) for array in maps])
    np.testing.assert_array_equal(half.boxes, single.boxes)
    assert str(half.scores.dtype) == "float32"


def test_predictions_outlive_the_chips_buffer() -> None:
    """The runtime reuses its output buffers; what was predicted from them stays."""
    maps = random_maps(4, spread=0.8)
    (found,) = detect(maps)
    before = found.boxes.copy()
    for array in maps:
        array[:] = 0
    np.testing.assert_array_equal(found.boxes, before)


def test_box_in_the_padding_comes_out_with_a_negative_side() -> None:
    """As in the guide's files, where scoring finds nothing that it matches."""
    boxes = np.array([[100, 20, 200, 60], [100, 560, 200, 600]], dtype=np.float32)
    ours = postprocess.on_picture(boxes, {"width": 640, "height": 427})
    np.testing.assert_array_equal(ours, [[100, 0, 200, -46], [100, 454, 200, 427]])


def test_exact_placement_brings_the_corners_of_the_picture_back(tmp_path: Path) -> None:
    """500 x 333 is resized to 640 x 426.24 by the guide's script afterwards, to 640 x 426 before."""
    noise((500, 333)).save(tmp_path / "picture.png")
    meta = NasFpn().preprocess(tmp_path / "picture.png").meta
    corners = np.array([[0, 107, 640, 107 + 426]], dtype=np.float32)
    exact = postprocess.on_picture(corners, meta, exact_placement=True)
    np.testing.assert_allclose(exact, [[0, 0, 500, 333]], atol=1e-9)
    np.testing.assert_allclose(postprocess.on_picture(corners, meta), [[0, 1 / 1.28, 500, 333]], atol=1e-9)
    maps = empty_maps()
    plant(maps, level=4, x=20, y=20, anchor=3, label=0, logit=2.0)
    tops = []
    for recipe in (NasFpn(), NasFpn(exact_placement=True)):
        (found,) = recipe.postprocess(maps, [meta])
        assert isinstance(found, Detections)
        tops.append(float(found.boxes[0, 1]))
    assert tops == pytest.approx([(288 - 106) / 1.28, (288 - 107) * 333 / 426], abs=1e-4)


@pytest.mark.parametrize(
    ("size", "resized", "pads"),
    [
        ((5, 11), (291, 640), (174, 0)),
        ((7, 5), (640, 457), (0, 91)),
        ((13, 9), (640, 443), (0, 98)),
        ((1, 1), (640, 640), (0, 0)),
        ((1280, 1), (640, 1), (0, 319)),
        ((10_000, 1), (640, 1), (0, 319)),
        ((2, 3000), (1, 640), (319, 0)),
        ((641, 639), (640, 638), (0, 1)),
    ],
)
def test_any_size_is_fitted_and_centred(
    tmp_path: Path, size: tuple[int, int], resized: tuple[int, int], pads: tuple[int, int]
) -> None:
    """Tiny pictures grow, long ones keep at least a row; what is not the picture is zero."""
    noise(size).save(tmp_path / "picture.png")
    sample = registry.get("nas_fpn").preprocess(tmp_path / "picture.png")
    assert sample.meta == {
        "width": size[0],
        "height": size[1],
        "resized_width": resized[0],
        "resized_height": resized[1],
        "pad_left": pads[0],
        "pad_top": pads[1],
    }
    assert json.loads(json.dumps(sample.meta)) == sample.meta
    filled = np.flatnonzero(sample.array.any(axis=(0, 2)))
    assert (filled[0], filled[-1]) == (pads[1], pads[1] + resized[1] - 1)
    assert (sample.array.shape, str(sample.array.dtype)) == ((3, 640, 640), "float32")
    assert sample.array.flags["C_CONTIGUOUS"]


def test_red_is_the_first_channel(tmp_path: Path) -> None:
    """OpenCV reads blue first; the network wants red first."""
    Image.new("RGB", (640, 640), (255, 0, 0)).save(tmp_path / "red.png")
    array = registry.get("nas_fpn").preprocess(tmp_path / "red.png").array
    expected = [(255 - 123.675) / 58.395, -116.28 / 57.12, -103.53 / 57.375]
    np.testing.assert_allclose(array[:, 0, 0], expected, rtol=1e-6)


def test_rotated_picture_is_prepared_as_the_camera_meant_it(tmp_path: Path) -> None:
    """Sizes, pads and pixels are those of the turned picture, because mmcv reads with OpenCV."""
    exif = Image.Exif()
    exif[0x0112] = 6
    noise((120, 80)).save(tmp_path / "stored.jpg", quality=95, exif=exif)
    turned = cv2.imread(str(tmp_path / "stored.jpg"), cv2.IMREAD_COLOR)
    assert turned is not None
    cv2.imwrite(str(tmp_path / "turned.png"), turned)
    samples = [registry.get("nas_fpn").preprocess(tmp_path / name) for name in ("stored.jpg", "turned.png")]
    assert (samples[0].meta["width"], samples[0].meta["height"]) == (80, 120)
    assert samples[0].meta == samples[1].meta
    np.testing.assert_array_equal(samples[0].array, samples[1].array)


@pytest.mark.parametrize(("mode", "suffix"), [("L", "jpg"), ("CMYK", "jpg"), ("RGBA", "png"), ("P", "png")])
def test_odd_modes_are_prepared(tmp_path: Path, mode: str, suffix: str) -> None:
    """Grey, CMYK, alpha and palette pictures have three channels afterwards."""
    noise((61, 97)).convert(mode).save(tmp_path / f"odd.{suffix}")
    sample = registry.get("nas_fpn").preprocess(tmp_path / f"odd.{suffix}")
    assert sample.array.shape == (3, 640, 640)
    assert sample.array[:, 320, 320].any()


def test_damaged_picture_is_named(tmp_path: Path) -> None:
    """The job fails with the file's name; no other sample moves into its place."""
    noise((61, 97)).save(tmp_path / "000000000139.jpg")
    content = (tmp_path / "000000000139.jpg").read_bytes()
    (tmp_path / "000000000139.jpg").write_bytes(content[:-200])
    with pytest.raises(DatasetError, match=r"000000000139\.jpg is damaged"):
        registry.get("nas_fpn").preprocess(tmp_path / "000000000139.jpg")


def test_export_needs_a_batch_size(tmp_path: Path) -> None:
    """As in the guide, a graph has one batch size."""
    assert not NasFpn.dynamic_batch
    with pytest.raises(InvalidRequestError, match="nas_fpn is exported with a fixed batch size only"):
        NasFpn().export(torch.nn.Identity(), tmp_path / "never.onnx", None)
    assert not (tmp_path / "never.onnx").exists()


def test_only_pass_is_its_own_merge() -> None:
    """One pass: nothing to merge."""
    (found,) = detect(empty_maps())
    assert NasFpn.passes == ("main",)
    assert NasFpn().merge({"main": found}) is found


def test_report_of_few_detections_is_the_scripts_too() -> None:
    """Where no image has more than a hundred, COCO's limits and the script's give the same lines."""
    dataset = random_coco(5)
    predictions: dict[str, Prediction] = dict(random_detections(dataset, 5).items())
    facts = NasFpn().evaluation_facts(predictions, dataset)
    with_limits = coco_scores.score(predictions, dataset, max_detections=guide_report.MAX_DETECTIONS).metrics()
    names = ["mAP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"]
    *lines, last = facts["guide_report"]
    assert last == f"bbox_mAP_copypaste: {' '.join(f'{with_limits[name]:.3f}' for name in names)}"
    assert [float(line.split()[1]) for line in lines] == [round(with_limits[name], 3) for name in names]
    assert set(facts["per_category"]) == {"thing 1", "thing 3", "thing 13"}
