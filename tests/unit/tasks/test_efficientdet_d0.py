"""What the recipe promises at its seams, beside the golden numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from npuq.atc_options import AtcOptions
from npuq.errors import CheckpointError, DatasetError, InvalidRequestError
from npuq.precision import Precision
from tasks import atc_request, registry
from tasks.protocols import Array, Detections, ReportsFacts
from tasks.recipes.efficientdet_d0 import anchors, postprocess
from tests.unit.tasks.memory_coco import random_coco, random_detections

RECIPE = registry.get("efficientdet_d0")
SIDES = (64, 32, 16, 8, 4)
WHOLE: dict[str, Any] = {"scale": 1.0, "width": 512, "height": 512}
FILL = (124, 116, 104)


def quiet_maps(batch: int = 1) -> list[Array]:
    """Return outputs in which nothing is found."""
    logits = [np.full((batch, 810, side, side), -12, dtype=np.float32) for side in SIDES]
    return [*logits, *(np.zeros((batch, 36, side, side), dtype=np.float32) for side in SIDES)]


def noisy_maps(seed: int, *, mean: float, spread: float) -> list[Array]:
    generator = np.random.default_rng(seed)
    logits = [generator.normal(mean, spread, (1, 810, side, side)) for side in SIDES]
    codes = [generator.normal(0, 0.4, (1, 36, side, side)) for side in SIDES]
    return [level.astype(np.float32) for level in (*logits, *codes)]


def detect(outputs: list[Array], *metas: dict[str, Any]) -> list[Detections]:
    found = RECIPE.postprocess(outputs, metas or [WHOLE])
    assert all(isinstance(each, Detections) for each in found)
    return [each for each in found if isinstance(each, Detections)]


def plainly(outputs: list[Array], meta: dict[str, Any]) -> list[tuple[Array, float, int]]:
    """Return box, score and category as published: 5,000 best, decode, clip, suppress one by one, 100 best; float64."""
    flat = [
        np.concatenate([level[0].transpose(1, 2, 0).reshape(-1, width) for level in levels]).astype(np.float64)
        for levels, width in ((outputs[:5], 90), (outputs[5:], 4))
    ]
    order = np.argsort(-flat[0].ravel(), kind="stable")[:5000]
    table = anchors.anchors(512)
    limit = np.array([meta["width"], meta["height"]] * 2) / meta["scale"]
    kept: list[tuple[Array, float, int]] = []
    for place in order:
        anchor, label = divmod(int(place), 90)
        ty, tx, th, tw = flat[1][anchor]
        size = table.sizes[anchor] * np.exp([tw, th])
        middle = table.centres[anchor] + np.array([tx, ty]) * table.sizes[anchor]
        box = np.clip(np.concatenate([middle - size / 2, middle + size / 2]), 0, limit)
        rivals = np.array([other for other, _, category in kept if category == label + 1]).reshape(-1, 4)
        if not (overlaps(box, rivals) > 0.5).any():
            kept.append((box, 1 / (1 + np.exp(-flat[0].ravel()[place])), label + 1))
        if len(kept) == 100:
            break
    return [(box * meta["scale"], score, label) for box, score, label in kept if score >= 0.001]


def overlaps(box: Array, others: Array) -> Array:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    inner = np.prod(np.maximum(sides, 0), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(inner / (areas + np.prod(box[2:] - box[:2]) - inner))


@pytest.mark.parametrize(
    ("mean", "spread"), [(-9.5, 1.0), (-7.5, 0.3), (-3.0, 1.5), (2.0, 1.0)], ids=["few", "faint", "many", "crowded"]
)
def test_detections_are_those_of_the_published_steps_one_by_one(mean: float, spread: float) -> None:
    """Looking at best classes first and dropping the faint before suppression changes nothing."""
    outputs = noisy_maps(int(10 * spread), mean=mean, spread=spread)
    meta = {"scale": 0.9375, "width": 480, "height": 320}
    (found,) = detect(outputs, meta)
    expected = plainly(outputs, meta)
    assert len(found.scores) == len(expected) > 10
    np.testing.assert_allclose(found.scores, [score for _, score, _ in expected], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.labels, [label for _, _, label in expected])
    np.testing.assert_allclose(found.boxes, [box for box, _, _ in expected], rtol=0, atol=2e-3)


def test_only_the_5000_best_pairs_are_looked_at() -> None:
    """The cap is on pairs of anchor and class, before suppression."""
    outputs = quiet_maps()
    outputs[0][0, 1::90] = 3.0  # class 1 of every anchor of the finest level: 36,864 pairs
    outputs[4][0, 0::90] = 2.0  # class 0 of the coarsest: a little worse, never seen
    (found,) = detect(outputs)
    assert set(found.labels.tolist()) == {2}
    assert len(found.scores) == postprocess.DETECTIONS


def test_nothing_found_is_an_empty_prediction() -> None:
    """Shapes and dtypes hold for no rows, too."""
    (found,) = detect(quiet_maps())
    assert (found.boxes.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))
    assert [array.dtype.name for array in (found.boxes, found.scores, found.labels)] == ["float32", "float32", "int64"]


@pytest.mark.parametrize(("channel", "category_id"), [(0, 1), (11, 12), (12, 13), (89, 90), (90 + 89, 90)])
def test_channels_are_category_ids_less_one(channel: int, category_id: int) -> None:
    """The network knows 90 classes, the ten that COCO does not use among them; no table lies between."""
    outputs = quiet_maps()
    outputs[2][0, channel, 3, 5] = 4.0
    (found,) = detect(outputs)
    assert found.labels.tolist() == [category_id]
    wide = 128 * (1 if channel < 90 else 1.4)
    assert found.boxes[0, 2] - found.boxes[0, 0] == pytest.approx(wide, abs=1e-3)
    assert (found.boxes[0, ::2].mean(), found.boxes[0, 1::2].mean()) == (5.5 * 32, 3.5 * 32)


def test_each_picture_gets_its_own_scale_and_its_padding_is_cut_off() -> None:
    """Of equal outputs, boxes differ by the pictures' own metas."""
    outputs = quiet_maps(batch=3)
    outputs[3][:, 7, 2, 2] = 6.0
    outputs[8][:, 2:4, 2, 2] = 3.0  # wider and higher than any picture
    found = detect(
        outputs,
        {"scale": 1.25, "width": 640, "height": 427},
        {"scale": 0.9765625, "width": 333, "height": 500},
    )
    assert len(found) == 2  # the third row is padding of the batch
    np.testing.assert_allclose(np.concatenate([each.boxes for each in found]), [[0, 0, 640, 427], [0, 0, 333, 500]])


def test_predictions_outlive_the_chips_buffers() -> None:
    """The runtime reuses its output buffers; what was predicted from them stays."""
    outputs = noisy_maps(3, mean=-4, spread=1)
    (found,) = detect(outputs)
    before = (found.boxes.copy(), found.scores.copy())
    for output in outputs:
        output[:] = 0
    np.testing.assert_array_equal(found.boxes, before[0])
    np.testing.assert_array_equal(found.scores, before[1])


def test_outputs_in_half_precision_are_read() -> None:
    """ATC can be told to give float16."""
    outputs = [output.astype(np.float16) for output in noisy_maps(4, mean=-8, spread=1)]
    (half,), (single,) = detect(outputs), detect([output.astype(np.float32) for output in outputs])
    np.testing.assert_array_equal(half.boxes, single.boxes)
    assert half.boxes.dtype == np.float32


def test_sizes_beyond_all_numbers_end_at_the_border() -> None:
    """A logarithm of 200 overflows; the box is the whole picture."""
    outputs = quiet_maps()
    outputs[3][0, 7, 2, 2] = 6.0
    outputs[8][0, 2:4, 2, 2] = 200.0
    (found,) = detect(outputs)
    np.testing.assert_array_equal(found.boxes, [[0, 0, 512, 512]])


@pytest.mark.parametrize(
    ("size", "inner"),
    [
        ((1, 1), (512, 512)),
        ((10_000, 1), (512, 1)),
        ((1, 10_000), (1, 512)),
        ((10_000, 30), (512, 1)),
        ((7, 5), (512, 365)),
        ((640, 427), (512, 341)),
        ((333, 500), (340, 512)),
        ((512, 512), (512, 512)),
    ],
)
def test_picture_of_any_shape_lies_top_left_on_the_mean(
    size: tuple[int, int], inner: tuple[int, int], tmp_path: Path
) -> None:
    """Sides are cut to whole pixels, but one is left; the rest is filled with the mean colour."""
    Image.new("RGB", size, (255, 0, 255)).save(tmp_path / "picture.png")
    sample = RECIPE.preprocess(tmp_path / "picture.png")
    assert sample.array.shape == (3, 512, 512)
    assert sample.array.dtype == np.float32
    assert sample.array.flags.c_contiguous
    red = sample.array[0]
    np.testing.assert_allclose(red[: inner[1], : inner[0]], (255 - 255 * 0.485) / (255 * 0.229), rtol=1e-6)
    assert np.allclose(red[inner[1] :], (FILL[0] - 255 * 0.485) / (255 * 0.229))
    assert np.allclose(red[:, inner[0] :], (FILL[0] - 255 * 0.485) / (255 * 0.229))
    assert dict(sample.meta) == {"scale": max(size) / 512, "width": size[0], "height": size[1]}


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "1", "LA"])
def test_picture_of_any_mode_is_what_pillow_makes_of_it_in_rgb(mode: str, tmp_path: Path) -> None:
    """Grey, CMYK, palette and alpha are converted as the script does, by dropping what RGB has not."""
    generator = np.random.default_rng(5)
    original = Image.fromarray(generator.integers(0, 256, (40, 60, 3), dtype=np.uint8)).convert(mode)
    path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    original.save(path)
    with Image.open(path) as read:
        read.convert("RGB").save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(RECIPE.preprocess(path).array, RECIPE.preprocess(tmp_path / "rgb.png").array)


def test_rotation_in_exif_is_not_followed(tmp_path: Path) -> None:
    """Pillow does not turn pictures by itself, and so the published script does not."""
    picture = Image.new("RGB", (64, 32), (200, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    picture.save(tmp_path / "plain.png")
    turned, plain = (RECIPE.preprocess(tmp_path / name) for name in ("turned.png", "plain.png"))
    np.testing.assert_array_equal(turned.array, plain.array)
    assert (turned.meta["width"], turned.meta["height"]) == (64, 32)


def test_damaged_picture_is_named(tmp_path: Path) -> None:
    """It fails its job; no other sample takes its place."""
    Image.effect_noise((200, 200), 50).convert("RGB").save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "000000000139.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=r"000000000139\.jpg is damaged"):
        RECIPE.preprocess(tmp_path / "000000000139.jpg")


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Return weights that fit."""
    return dict(RECIPE.network().state_dict())


@pytest.mark.parametrize(
    "published",
    [
        pytest.param(lambda state: state, id="bare, as published"),
        pytest.param(lambda state: {"state_dict": state, "epoch": 310, "arch": "tf_efficientdet_d0"}, id="wrapped"),
        pytest.param(lambda state: {f"module.{key}": value for key, value in state.items()}, id="parallel"),
        pytest.param(
            lambda state: {key: value for key, value in state.items() if "num_batches" not in key}, id="old torch"
        ),
    ],
)
def test_every_published_form_is_loaded(
    published: Callable[[dict[str, torch.Tensor]], Any], state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """All weights arrive."""
    wanted = {key: value + 1 if key.endswith("conv_pw.weight") else value for key, value in state.items()}
    torch.save(published(wanted), tmp_path / "d0.pth")
    network = RECIPE.network()
    RECIPE.load_weights(network, tmp_path / "d0.pth")
    assert all(torch.equal(value, wanted[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda state: state.pop("fpn.cell.0.fnode.4.combine.resample.1.conv.conv.weight"), "1 missing"),
        (lambda state: state.pop("class_net.predict.conv_pw.bias"), r"missing \(class_net.predict.conv_pw.bias\)"),
        (lambda state: state.update({"backbone.conv_head.weight": torch.zeros(1)}), "unexpected"),
        (lambda state: state.update({"box_net.predict.conv_pw.bias": torch.zeros(24)}), r"wanted is float32 \(36,\)"),
    ],
    ids=["node", "head", "classifier", "fewer anchors"],
)
def test_weights_of_another_model_are_refused(
    spoil: Callable[[dict[str, torch.Tensor]], Any], said: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """The first key that differs is named."""
    other = dict(state)
    spoil(other)
    torch.save(other, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=said):
        RECIPE.load_weights(RECIPE.network(), tmp_path / "other.pth")


def test_export_wants_a_batch_size(tmp_path: Path) -> None:
    """The guide has one model per batch size; the planner is told so."""
    assert RECIPE.dynamic_batch is False
    with pytest.raises(InvalidRequestError, match="one batch size"):
        RECIPE.export(RECIPE.network(), tmp_path / "d0.onnx", None)


@pytest.mark.parametrize("size", [(500, 512), (128, 64)])
def test_sides_that_the_padding_is_not_made_for_are_refused(size: tuple[int, int]) -> None:
    """The published padding depends on the sides; here it is that of even ones."""
    with pytest.raises(ValueError, match="no multiples of 128"):
        RECIPE.network()(torch.zeros(1, 3, *size))


def test_network_is_handed_over_in_eval_mode() -> None:
    """BatchNorm uses its statistics, so batches do not influence each other."""
    assert not any(module.training for module in RECIPE.network().modules())


def test_mean_of_squeeze_and_excite_is_kept_exact_in_mixed_precision_only() -> None:
    """The guide's ops_info.json goes to ATC with mixed precision, which alone has such a list."""
    table = atc_request.recipe_table(RECIPE)
    assert set(table.files) == {"modify_mixlist"}
    assert "ReduceMeanD" in table.files["modify_mixlist"].read_text()
    mixed, half = (
        atc_request.merged(AtcOptions(), table.options, precision) for precision in (Precision.MIXED, Precision.FP16)
    )
    assert mixed.modify_mixlist is not None
    assert half.modify_mixlist is None


def test_facts_hold_a_row_for_each_category_with_objects() -> None:
    """What stands behind the metrics is kept beside them."""
    dataset = random_coco(21)
    predictions = random_detections(dataset, 22)
    assert isinstance(RECIPE, ReportsFacts)
    facts = RECIPE.evaluation_facts(predictions, dataset)
    assert set(facts["per_category"]) == {"thing 1", "thing 3", "thing 13"}
    metrics = RECIPE.evaluate(predictions, dataset)
    assert np.mean([row["mAP"] for row in facts["per_category"].values()]) == pytest.approx(metrics["mAP"])


def test_only_pass_is_its_own_merge() -> None:
    """One pass: nothing to merge."""
    (found,) = detect(quiet_maps())
    assert RECIPE.passes == ("main",)
    assert RECIPE.merge({"main": found}) is found
