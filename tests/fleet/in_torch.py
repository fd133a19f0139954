"""What a checkpoint predicts in one process, with torch alone: what a fleet's answer is held against."""

from pathlib import Path

import torch

from tasks.protocols import Dataset, Prediction, Recipe


def predict(recipe: Recipe, weights: Path, dataset: Dataset) -> dict[str, Prediction]:
    """Return the predictions of a detector by image id, picture by picture."""
    network = recipe.network()
    recipe.load_weights(network, weights)
    found: dict[str, Prediction] = {}
    for image_id in dataset.image_ids:
        sample = recipe.preprocess(dataset.image_path(image_id))
        with torch.inference_mode():
            outputs = [output.numpy() for output in network(torch.from_numpy(sample.array[None]))]
        (found[image_id],) = recipe.postprocess(outputs, [sample.meta])
    return found
