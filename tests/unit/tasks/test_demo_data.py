"""The demo's data are learnable, made once, and punish every mistake on the way to a score."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from npuq.errors import InvalidRequestError
from npuq.states import JobKind
from tasks import datasets, demo_data, demo_transform, export, images, registry
from tasks.demo_data import DemoFiles, make_demo
from tasks.demo_images import TEXTURES, class_ids, draw, write_images
from tasks.protocols import Array, ClassLabels, ClassScores, Dataset
from tasks.recipes.mobilenet_v1 import CROPPED, MEAN, RESIZED, STD
from tasks.steps import DatasetRef
from tests.unit.tasks.recording_context import host_context

SMALL: dict[str, Any] = {"classes": 4, "train": 8, "val": 6}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    """Return a small demo; tests that spoil it take a copy."""
    return make_demo(tmp_path_factory.mktemp("small") / "demo", **SMALL)


@pytest.fixture(scope="module")
def dataset(demo: DemoFiles) -> Dataset:
    """Return the demo's dataset, opened as a worker does."""
    return datasets.open_dataset(
        DatasetRef(
            name="demo",
            format="imagenet",
            root=demo.dataset_root,
            digest=demo.dataset_digest,
            samples=demo.samples,
            manifest=demo.manifest,
        )
    )


@dataclass(frozen=True)
class Mistaken:
    """Another way to prepare a picture."""

    prepare: Callable[[Image.Image], Array]

    def top1(self, demo: DemoFiles, dataset: Dataset) -> float:
        """Return the accuracy in percent that this way gives."""
        recipe = registry.get("mobilenet_v1")
        predictions = demo_data.predict_in_torch(recipe, demo.weights, dataset, self.seen)
        return recipe.evaluate(predictions, dataset)["top1"]

    def seen(self, image_path: Path) -> Array:
        """Return what the network sees."""
        return self.prepare(images.read_rgb(image_path))


def sized(image: Image.Image) -> Image.Image:
    return images.centre_crop(images.resize_short_side(image, RESIZED), CROPPED)


def right(image: Image.Image) -> Array:
    return images.normalise(sized(image), mean=MEAN, std=STD)


def in_bgr_order(image: Image.Image) -> Array:
    swapped = Image.fromarray(np.ascontiguousarray(np.asarray(sized(image))[..., ::-1]))
    return images.normalise(swapped, mean=MEAN, std=STD)


def not_normalised(image: Image.Image) -> Array:
    return images.normalise(sized(image), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def squashed(image: Image.Image) -> Array:
    return images.normalise(image.resize((CROPPED, CROPPED), Image.Resampling.BILINEAR), mean=MEAN, std=STD)


def test_accuracy_is_far_above_chance_and_not_perfect(demo: DemoFiles, dataset: Dataset) -> None:
    """Eight classes give 12.5 % by chance; the very number is that of an own run."""
    assert 60 < demo.torch_top1 < 100
    assert demo.torch_top1 < demo.torch_top5 <= 100
    assert Mistaken(right).top1(demo, dataset) == demo.torch_top1


def test_the_fit_and_torchs_score_owe_nothing_to_the_recipes_preprocessing(dataset: Dataset) -> None:
    """The two say the same of a picture, and share no line: a mistake in the recipe's shows as a disagreement."""
    recipe = registry.get("mobilenet_v1")
    for image_id in dataset.image_ids[:8]:
        path = dataset.image_path(image_id)
        np.testing.assert_allclose(recipe.preprocess(path).array, demo_transform.network_input(path), atol=1e-6)


@pytest.mark.parametrize("mistake", [in_bgr_order, not_normalised, squashed])
def test_a_mistake_in_preprocessing_shows(
    demo: DemoFiles, dataset: Dataset, mistake: Callable[[Image.Image], Array]
) -> None:
    """Swapped channels, no normalisation, or another resize each cost at least three pictures of sixty-four."""
    assert Mistaken(mistake).top1(demo, dataset) <= demo.torch_top1 - 300 / demo.samples


def test_reference_is_what_torch_ranks_first(demo: DemoFiles, dataset: Dataset) -> None:
    """The classes kept beside the data agree with the accuracy kept beside them."""
    assert isinstance(dataset, ClassLabels)
    hits = sum(demo.torch_classes[image_id] == dataset.label(image_id) for image_id in dataset.image_ids)
    assert 100 * hits / demo.samples == pytest.approx(demo.torch_top1)
    assert set(demo.torch_classes.values()) <= set(class_ids(8))


def test_half_precision_weights_keep_the_answers(demo: DemoFiles, dataset: Dataset) -> None:
    """What ATC does by default, float16 weights, changes no more than one answer: margins are wide enough."""
    recipe = registry.get("mobilenet_v1")
    network = recipe.network()
    recipe.load_weights(network, demo.weights)
    rounded = {
        key: value.half().float() if value.is_floating_point() else value for key, value in network.state_dict().items()
    }
    network.load_state_dict(rounded)
    samples = [recipe.preprocess(dataset.image_path(image_id)).array for image_id in dataset.image_ids]
    with torch.inference_mode():
        logits = network(torch.from_numpy(np.stack(samples)))
    assert bool(torch.isfinite(logits).all())
    same = sum(
        int(label) == demo.torch_classes[image_id]
        for image_id, label in zip(dataset.image_ids, logits.argmax(1), strict=True)
    )
    assert same >= demo.samples - 1


def test_exported_demo_gives_torchs_answers(demo: DemoFiles, dataset: Dataset, tmp_path: Path) -> None:
    """From the published checkpoint through ONNX to classes: the same as torch, picture by picture."""
    outcome = export.run(host_context(JobKind.EXPORT, tmp_path, inputs={"weights": (demo.weights,)}))
    session = onnxruntime.InferenceSession(outcome.outputs["onnx"][0], providers=["CPUExecutionProvider"])
    recipe = registry.get("mobilenet_v1")
    for image_id in dataset.image_ids[:16]:
        sample = recipe.preprocess(dataset.image_path(image_id))
        (prediction,) = recipe.postprocess(session.run(["class"], {"image": sample.array[None]}), [sample.meta])
        assert isinstance(prediction, ClassScores)
        assert int(prediction.scores.argmax()) == demo.torch_classes[image_id]


def test_checkpoint_has_the_published_form(demo: DemoFiles) -> None:
    """The wrapper's entries, DataParallel's keys, and all 1000 classes."""
    content = torch.load(demo.weights, weights_only=True)
    assert set(content) == {"epoch", "arch", "state_dict", "best_prec1"}
    assert all(key.startswith("module.") for key in content["state_dict"])
    assert content["state_dict"]["module.fc.weight"].shape == (1000, 1024)


def test_second_call_finds_everything_made(demo: DemoFiles) -> None:
    """Nothing is written again."""
    weights_written = demo.weights.stat().st_mtime_ns
    again = make_demo(demo.weights.parent, classes=8, train=96, val=64)
    assert again == replace(demo, reused=True)
    assert demo.weights.stat().st_mtime_ns == weights_written


def spoil_weights(files: DemoFiles) -> None:
    files.weights.write_bytes(files.weights.read_bytes()[:-1])


def lose_an_image(files: DemoFiles) -> None:
    next((files.dataset_root / "val").iterdir()).unlink()


def lose_the_reference(files: DemoFiles) -> None:
    (files.weights.parent / "reference.json").write_text("{")


@pytest.mark.parametrize("spoil", [spoil_weights, lose_an_image, lose_the_reference])
def test_spoilt_data_are_made_again_and_equal(
    small: DemoFiles, tmp_path: Path, spoil: Callable[[DemoFiles], None]
) -> None:
    """Everything follows from the seed, so what was spoilt comes back the same; no scratch is left behind."""
    shutil.copytree(small.weights.parent, tmp_path / "demo")
    first = make_demo(tmp_path / "demo", **SMALL)
    assert first.reused
    spoil(first)
    second = make_demo(tmp_path / "demo", **SMALL)
    assert second == replace(first, reused=False)
    assert (second.dataset_digest, second.torch_classes) == (small.dataset_digest, small.torch_classes)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_other_parameters_make_other_data(small: DemoFiles, tmp_path: Path) -> None:
    """A folder holds one set of data: the one that was asked for last."""
    shutil.copytree(small.weights.parent, tmp_path / "demo")
    second = make_demo(tmp_path / "demo", **SMALL, seed=1)
    assert second.dataset_digest != small.dataset_digest
    assert json.loads((tmp_path / "demo" / "reference.json").read_text())["parameters"] == {**SMALL, "seed": 1}


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    """Somebody's home is never replaced by a demo."""
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InvalidRequestError, match="holds something else"):
        make_demo(tmp_path, **SMALL)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("wrong", [{"classes": 1}, {"classes": 17}, {"train": 3}, {"val": 3}])
def test_impossible_sizes_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    """Before anything is written."""
    with pytest.raises(InvalidRequestError):
        make_demo(tmp_path / "demo", **{**SMALL, **wrong})
    assert not (tmp_path / "demo").exists()


def test_pictures_are_of_many_shapes_and_balanced_classes(tmp_path: Path) -> None:
    """Portrait and landscape, larger and smaller than the crop, each class equally often."""
    labels = write_images(tmp_path, classes=4, count=24, seed=0)
    sizes = [images.read_rgb(tmp_path / name).size for name in labels]
    assert {width > height for width, height in sizes} == {True, False}
    assert min(min(size) for size in sizes) < CROPPED < max(min(size) for size in sizes)
    assert {label: list(labels.values()).count(label) for label in class_ids(4)} == dict.fromkeys((0, 333, 666, 999), 6)


def test_every_look_can_be_drawn() -> None:
    """All textures work, whatever number of classes a demo uses."""
    generator = np.random.default_rng(0)
    assert all(draw(look, generator).mode == "RGB" for look in range(4 * len(TEXTURES)))
