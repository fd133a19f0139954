"""The demo's weights find shapes that they were not fitted to, and the metric sees mistakes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks import anchor_targets, coco_scores, datasets, demo_coco, registry
from tasks.datasets_coco import CocoDataset
from tasks.protocols import Array, Detections, Prediction
from tasks.recipes.efficientdet_d0 import anchors, demo_weights
from tests.services.registered import register_folder

#: Fitting takes half a minute where others use the cores.
pytestmark = [pytest.mark.timeout(300)]

RECIPE = registry.get("efficientdet_d0")
PICTURES = 10
Outputs = Mapping[str, tuple[list[Array], Mapping[str, Any]]]


@pytest.fixture(scope="module")
def weights(efficientdet_checkpoint: Path) -> Path:
    """Return a checkpoint."""
    return efficientdet_checkpoint


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    """Return unseen pictures."""
    folder = tmp_path_factory.mktemp("shown")
    demo_coco.write(folder / "coco", images=PICTURES, seed=1)
    dataset = datasets.open_dataset(register_folder(folder / "coco", folder / "m.json", dataset_format="coco"))
    assert isinstance(dataset, CocoDataset)
    return dataset


def run(weights: Path, dataset: CocoDataset, *, backwards: bool = False) -> Outputs:
    """Return what the network says of each picture, its channels swapped or not, and the picture's meta."""
    network = RECIPE.network()
    RECIPE.load_weights(network, weights)
    found = {}
    for image_id in dataset.image_ids:
        sample = RECIPE.preprocess(dataset.image_path(image_id))
        array = np.ascontiguousarray(sample.array[::-1] if backwards else sample.array)
        with torch.inference_mode():
            found[image_id] = [output.numpy() for output in network(torch.from_numpy(array)[None])], sample.meta
    return found


@pytest.fixture(scope="module")
def outputs(weights: Path, dataset: CocoDataset) -> Outputs:
    """Return what the network says."""
    return run(weights, dataset)


def score(outputs: Outputs, dataset: CocoDataset, **changed: Any) -> dict[str, float]:
    found: dict[str, Prediction] = {}
    for image_id, (of_image, meta) in outputs.items():
        (found[image_id],) = RECIPE.postprocess(of_image, [{**meta, **changed}])
    return coco_scores.score(found, dataset).metrics()


def test_unseen_shapes_are_found(outputs: Outputs, dataset: CocoDataset) -> None:
    """Clearly above chance, and not perfect: there is something to lose."""
    scores = score(outputs, dataset)
    assert 0.25 < scores["mAP"] < 0.9
    assert scores["AP50"] > 0.6


def test_swapped_channels_show(weights: Path, outputs: Outputs, dataset: CocoDataset) -> None:
    """Shapes of one colour are taken for others."""
    swapped = run(weights, dataset, backwards=True)
    assert score(swapped, dataset)["mAP"] < 0.5 * score(outputs, dataset)["mAP"]


def test_another_pictures_scale_shows(outputs: Outputs, dataset: CocoDataset) -> None:
    """Boxes scaled by one number for all miss."""
    assert score(outputs, dataset, scale=0.45)["mAP"] < 0.75 * score(outputs, dataset)["mAP"]


def test_pictures_without_objects_show_nothing_with_certainty(outputs: Outputs, dataset: CocoDataset) -> None:
    """Silence is learned, too."""
    with_objects = {entry["image_id"] for entry in dataset.instances["annotations"]}
    empty = [image_id for image_id in dataset.image_ids if dataset.coco_image_id(image_id) not in with_objects]
    assert empty
    for image_id in empty:
        of_image, meta = outputs[image_id]
        (found,) = RECIPE.postprocess(of_image, [meta])
        assert isinstance(found, Detections)
        assert found.scores.max(initial=0) < 0.5


def test_rounding_is_not_amplified(weights: Path, dataset: CocoDataset, outputs: Outputs) -> None:
    """Another runtime rounds otherwise; what it finds must be the same."""
    network = RECIPE.network()
    RECIPE.load_weights(network, weights)
    image_id = dataset.image_ids[1]
    array = torch.from_numpy(RECIPE.preprocess(dataset.image_path(image_id)).array)[None].double()
    with torch.inference_mode():
        exact = [output.numpy() for output in network.double()(array)]
    for output, wanted in zip(outputs[image_id][0], exact, strict=True):
        np.testing.assert_allclose(output, wanted, rtol=0, atol=1e-3)


def test_second_call_finds_the_file_made(weights: Path) -> None:
    """Other parameters have another name, so nothing stale is found."""
    before = weights.stat().st_mtime_ns
    assert demo_weights.checkpoint(weights.parent, pictures=24, seed=0) == weights
    assert weights.stat().st_mtime_ns == before
    assert [path.name for path in weights.parent.iterdir()] == [weights.name]


def test_targets_decode_to_the_objects() -> None:
    """What anchors are asked to say is, decoded, the object; every object has an anchor, and each its own class."""
    table = anchors.anchors(512)
    boxes = np.array([[20, 30, 180, 140], [300, 200, 460, 380], [5, 480, 25, 500]], dtype=np.float32)
    pictures = [
        anchor_targets.Objects(boxes=boxes, labels=np.array([37, 84, 37])),
        anchor_targets.Objects(boxes=np.zeros((0, 4), dtype=np.float32), labels=np.zeros(0, dtype=np.int64)),
    ]
    wanted = anchor_targets.assign(table.centres, table.sizes, pictures, {37: 0, 84: 1})
    assert not wanted.matched[1].any()
    assert wanted.counts[1].all()
    decoded = anchors.decode(anchors.codes(wanted.moves[0]), table.centres, table.sizes)[wanted.matched[0] > 0]
    distances = np.abs(decoded[:, None] - boxes[None]).max(axis=2)
    assert distances.min(axis=1).max() < 1e-3
    assert set(distances.argmin(axis=1).tolist()) == {0, 1, 2}
    kinds = wanted.classes[0][wanted.matched[0] > 0]
    np.testing.assert_array_equal(kinds.argmax(axis=1), np.array([0, 1, 0])[distances.argmin(axis=1)])
    assert (kinds.sum(axis=1) == 1).all()
    assert (wanted.counts[0][wanted.matched[0] > 0] == 1).all()
    assert (wanted.counts[0] == 0).any()


def test_weights_of_another_network_are_not_made() -> None:
    """The fit knows where this network's heads are."""
    with pytest.raises(TypeError, match="EfficientDet"):
        demo_weights.fit(torch.nn.Linear(3, 3), [], [], seed=0)
