"""What a model predicts before any conversion: its ONNX in float32 on a CPU, the baseline of an accuracy drop.

One process does it all, image after image: no feeders and no shards, for it is done once per model and dataset. So a
recipe may also show its network pictures of any size here, which no chip could (`PredictsAnySize`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from npuq.errors import InvalidRequestError
from tasks.batch_binding import bind_batch
from tasks.dataset_files import decode_registered, preprocess_registered
from tasks.protocols import Array, Dataset, InferenceSession, Prediction, PredictsAnySize, Recipe
from tasks.steps import StepContext


def predict(
    context: StepContext, recipe: Recipe, dataset: Dataset, passes: Sequence[str]
) -> dict[str, dict[str, Prediction]]:
    """Return image id -> pass -> prediction, in the order of the dataset and of `passes`.

    Input role `onnx`: one file. Parameter `batch_size`; the last batch is filled up with its first image, as on a chip.

    Raises:
        InvalidRequestError: parameters or inputs that cannot be.
        DatasetChangedError: an image is not what was registered.
        DatasetError: an image cannot be read.
        ToolError: the model cannot be loaded or executed.
    """
    batch_size, model = _parameters(context)
    session = context.session(model)
    image_ids = dataset.image_ids
    if isinstance(recipe, PredictsAnySize):
        return _of_any_size(context, session, recipe, dataset)
    bind_batch(session, batch_size)
    joined: dict[str, dict[str, Prediction]] = {image_id: {} for image_id in image_ids}
    done, total = 0, len(image_ids) * len(passes)
    for pass_name in passes:
        for image_id, prediction in _of_pass(session, recipe, dataset, batch_size, pass_name):
            joined[image_id][pass_name] = prediction
            done += 1
            context.progress(done, total, "images")
    return joined


def _of_any_size(
    context: StepContext, session: InferenceSession, recipe: PredictsAnySize, dataset: Dataset
) -> dict[str, dict[str, Prediction]]:
    """Return the same of a recipe that chooses the sizes itself, one input at a time."""
    dtype = session.inputs[0].dtype

    def run(array: Array) -> list[Array]:
        session.bind([array.shape])
        return session.run([np.ascontiguousarray(array, dtype=dtype)])

    joined: dict[str, dict[str, Prediction]] = {}
    for image_id in dataset.image_ids:
        file = dataset.registered(image_id)
        joined[image_id] = dict(decode_registered(dataset.ref, file, lambda path: recipe.predict_picture(path, run))[0])
        context.progress(len(joined), len(dataset.image_ids), "images")
    return joined


def _parameters(context: StepContext) -> tuple[int, Path]:
    request = context.request
    try:
        (model,) = request.inputs["onnx"]
        batch_size = int(request.params["batch_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequestError(f"A reference needs batch_size and one ONNX file; wrong is: {error!r}.") from error
    if batch_size < 1:
        raise InvalidRequestError(f"A batch has at least one image, not {batch_size}.")
    return batch_size, model


def _of_pass(
    session: InferenceSession, recipe: Recipe, dataset: Dataset, batch_size: int, pass_name: str
) -> Iterator[tuple[str, Prediction]]:
    """Yield image ids and predictions in the order of the dataset."""
    dtype = session.inputs[0].dtype
    for start in range(0, len(dataset.image_ids), batch_size):
        image_ids = dataset.image_ids[start : start + batch_size]
        samples = [
            preprocess_registered(recipe, dataset.ref, dataset.registered(image_id), pass_name)[0]
            for image_id in image_ids
        ]
        rows = [sample.array for sample in samples] + [samples[0].array] * (batch_size - len(samples))
        outputs = session.run([np.stack(rows).astype(dtype, copy=False)])
        metas = [sample.meta for sample in samples]
        counted = [output[: len(samples)] for output in outputs]
        yield from zip(image_ids, recipe.postprocess(counted, metas, pass_name), strict=True)
