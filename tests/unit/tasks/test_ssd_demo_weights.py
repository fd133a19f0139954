"""The demo's weights find shapes that they were not fitted to, and the metric sees mistakes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks import demo_voc, registry, voc_scores
from tasks.protocols import Array, Detections, Prediction
from tasks.recipes.ssd_mobilenetv2 import demo_weights, priors, targets
from tasks.recipes.ssd_mobilenetv2.network import SSDLite
from tests.unit.tasks.memory_voc import MemoryVoc, objects

pytestmark = [pytest.mark.timeout(180)]

RECIPE = registry.get("ssd_mobilenetv2")
PICTURES = 24
Outputs = Mapping[str, list[Array]]
Metas = Mapping[str, Mapping[str, Any]]
Shown = tuple[MemoryVoc, dict[str, Array], Metas]


@pytest.fixture(scope="module")
def weights(ssd_checkpoint: Path) -> Path:
    """Return a checkpoint."""
    return ssd_checkpoint


@pytest.fixture(scope="module")
def network(weights: Path) -> torch.nn.Module:
    """Return the network with these weights, loaded as a user's."""
    network = RECIPE.network()
    RECIPE.load_weights(network, weights)
    return network


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Return unseen pictures: their truth, their tensors and their sizes."""
    path = tmp_path_factory.mktemp("shown") / "picture.jpg"
    truth, arrays, metas = {}, {}, {}
    for number, picture in enumerate(demo_voc.pictures(PICTURES, seed=1)):
        demo_voc.save(picture, path)
        sample = RECIPE.preprocess(path)
        truth[f"{number}"], arrays[f"{number}"], metas[f"{number}"] = picture.truth, sample.array, dict(sample.meta)
    return MemoryVoc(truth=truth), arrays, metas


@pytest.fixture(scope="module")
def outputs(network: torch.nn.Module, shown: Shown) -> Outputs:
    """Return what the network says of each."""
    return run(network, shown[1])


def run(network: torch.nn.Module, arrays: Mapping[str, Array]) -> Outputs:
    found = {}
    for image_id, array in arrays.items():
        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(array[None]))
            found[image_id] = [output.numpy() for output in network(batch)]
    return found


def score(outputs: Outputs, dataset: MemoryVoc, metas: Metas) -> float:
    """Return the mean average precision of some outputs."""
    found: dict[str, Prediction] = {}
    for image_id, of_image in outputs.items():
        (found[image_id],) = RECIPE.postprocess(of_image, [metas[image_id]])
    return voc_scores.metrics(found, dataset)["mAP"]


def test_unseen_shapes_are_found(outputs: Outputs, shown: Shown) -> None:
    """Clearly above chance, and not perfect: there is something to lose."""
    dataset, _, metas = shown
    assert 0.5 < score(outputs, dataset, metas) < 0.99


def test_swapped_channels_show(network: torch.nn.Module, outputs: Outputs, shown: Shown) -> None:
    """Shapes of one colour are taken for others."""
    dataset, arrays, metas = shown
    swapped = run(network, {key: array[::-1] for key, array in arrays.items()})
    assert score(swapped, dataset, metas) < 0.75 * score(outputs, dataset, metas)


def test_swapped_sides_show(outputs: Outputs, shown: Shown) -> None:
    """Boxes scaled by the wrong side miss."""
    dataset, _, metas = shown
    swapped = {key: {"width": meta["height"], "height": meta["width"]} for key, meta in metas.items()}
    assert score(outputs, dataset, swapped) < 0.8 * score(outputs, dataset, metas)


def test_second_call_finds_the_file_made(weights: Path) -> None:
    """Other parameters have another name, so nothing stale is found."""
    before = weights.stat().st_mtime_ns
    assert demo_weights.checkpoint(weights.parent, pictures=48, seed=0) == weights
    assert weights.stat().st_mtime_ns == before
    assert [path.name for path in weights.parent.iterdir()] == [weights.name]


def test_targets_decode_to_the_objects() -> None:
    """What the priors are asked to say is, decoded by the network, the object; each object has at least one prior."""
    truth = objects([((20, 30, 120, 130), 7, False), ((150, 10, 170, 30), 1, False), ((0, 100, 199, 149), 20, True)])
    meta = {"width": 200, "height": 150}
    wanted = targets.of_pictures([meta, meta], [truth, objects([])])
    assert set(wanted.labels[0].tolist()) == {0, 1, 7}
    assert wanted.doubtful[0].any()
    assert not wanted.labels[1].any()
    assert not wanted.doubtful[1].any()
    decoded = SSDLite().decode(torch.from_numpy(wanted.locations)).numpy()[0] * [200, 150, 200, 150]
    for label, box in ((7, truth.boxes[0]), (1, truth.boxes[1])):
        own = decoded[wanted.labels[0] == label]
        assert len(own)
        np.testing.assert_allclose(own, np.broadcast_to(box, own.shape), atol=1e-3)
    assert wanted.between(0, priors.LEVELS[0].priors).labels.shape == (2 * 19 * 19, 6)


def test_weights_of_another_network_are_not_made() -> None:
    """The fit knows where this network's heads are."""
    with pytest.raises(TypeError, match="SSDLite"):
        demo_weights.fit(torch.nn.Linear(3, 3), [], [], seed=0)


def test_detections_of_a_picture_without_objects_are_few(outputs: Outputs, shown: Shown) -> None:
    """Nothing is found with certainty where nothing is."""
    dataset, _, metas = shown
    empty = [image_id for image_id in dataset.image_ids if not len(dataset.objects(image_id).labels)]
    assert empty
    for image_id in empty:
        (found,) = RECIPE.postprocess(outputs[image_id], [metas[image_id]])
        assert isinstance(found, Detections)
        assert found.scores.max(initial=0) < 0.9
