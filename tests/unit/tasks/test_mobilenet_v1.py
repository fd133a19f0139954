"""What the recipe promises at its seams, beside the golden numbers."""

import numpy as np

from tasks import registry
from tasks.protocols import ClassScores


def test_padding_rows_of_a_batch_are_dropped() -> None:
    """A last batch of three in a model of four gives three predictions."""
    outputs = np.arange(4 * 1000, dtype=np.float32).reshape(4, 1000)
    predictions = registry.get("mobilenet_v1").postprocess([outputs], [{}, {}, {}])
    assert len(predictions) == 3
    assert isinstance(predictions[2], ClassScores)
    np.testing.assert_array_equal(predictions[2].scores, outputs[2])


def test_predictions_outlive_the_chips_buffer() -> None:
    """The runtime reuses its output buffer; what was predicted from it stays."""
    outputs = np.ones((1, 1000), dtype=np.float32)
    (prediction,) = registry.get("mobilenet_v1").postprocess([outputs], [{}])
    outputs[:] = 0
    assert isinstance(prediction, ClassScores)
    assert prediction.scores.sum() == 1000


def test_only_pass_is_its_own_merge() -> None:
    """One pass: nothing to merge."""
    recipe = registry.get("mobilenet_v1")
    prediction = ClassScores(scores=np.zeros(1000))
    assert recipe.passes == ("main",)
    assert recipe.merge({"main": prediction}) is prediction


def test_network_is_handed_over_in_eval_mode() -> None:
    """BatchNorm uses its statistics, so batches do not influence each other."""
    assert not any(module.training for module in registry.get("mobilenet_v1").network().modules())
