"""The demo's weights of NAS-FPN; that they find its shapes is seen where a fleet runs them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks import demo_shapes
from tasks.recipes.nas_fpn import anchors, demo_weights


def test_anchors_are_asked_for_the_objects_where_they_lie_on_the_canvas(tmp_path: Path) -> None:
    """Moved and grown as the picture is; what an anchor should say is, decoded, its object."""
    scene = next(scene for scene in demo_shapes.scenes(10, seed=0) if len(scene.shapes) > 1)
    objects = demo_weights._objects(scene, demo_weights._sample(scene, tmp_path))
    classes, _, moves, matched = demo_weights._targets([objects], sorted(set(objects.labels.tolist())))
    found = matched.numpy().ravel() > 0
    decoded = anchors.decode(anchors.anchors(5)[found], moves.reshape(-1, 4).float().numpy()[found])
    distances = np.abs(decoded[:, None] - objects.boxes[None]).max(axis=2)
    assert distances.min(axis=1).max() < 1e-3
    assert set(distances.argmin(axis=1).tolist()) == set(range(len(objects.boxes)))
    assert classes.sum() == found.sum()
    growth = 640 / max(scene.image.size)
    left = (640 - round(scene.image.width * growth)) // 2
    assert objects.boxes[0, 0] == pytest.approx(scene.shapes[0].box[0] * growth + left, abs=1)


def test_weights_of_another_network_are_not_made() -> None:
    """The fit knows where this network's head is."""
    with pytest.raises(TypeError, match="NasFpnRetinaNet"):
        demo_weights.fit(torch.nn.Linear(3, 3), [], [], seed=0)
