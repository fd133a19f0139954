"""The evaluate step: joins the predictions of all shards and scores them by the recipe's metric."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from npuq.errors import InvalidRequestError
from tasks import datasets, metrics, predictions, reference, registry
from tasks.protocols import Dataset, ReportsFacts
from tasks.steps import StepContext, StepOutcome, StepRequest


def run(context: StepContext) -> StepOutcome:
    """Score a run's predictions.

    Parameters of the request: `limit` (int or None: first images only), `passes` (list; default: the recipe's) and
    `reference` (true: predict here, on the CPU; see `tasks.reference`). Input role `predictions`: one file per shard.
    The outcome's metrics have the units of `tasks.metrics`; its facts are `samples`, of `dataset_samples` that the
    whole dataset has, and what the recipe adds (`correct_at_rank`, `guide_report`).

    Raises:
        InvalidRequestError: no dataset, passes that the recipe does not have, or images that the dataset does not have.
        DatasetMissingError, DatasetChangedError: this host does not have the dataset, or not as it was registered.
        DatasetError: the predictions do not cover the dataset.
        ArtifactError: a predictions file is damaged.
    """
    request = context.request
    recipe = registry.get(request.recipe, request.recipe_options)
    dataset = _open(request)
    passes = _passes(request.params, recipe.passes)
    context.progress(0, len(dataset.image_ids), "images")
    if request.params.get("reference"):
        joined = reference.predict(context, recipe, dataset, passes)
    else:
        joined = predictions.join(_files(request), dataset.image_ids, passes)
    merged = {image_id: recipe.merge(of_passes) for image_id, of_passes in joined.items()}
    values = recipe.evaluate(merged, dataset)
    facts: dict[str, Any] = {
        "samples": len(merged),
        "dataset_samples": dataset.ref.samples,
        "dataset_digest": dataset.ref.digest,
    }
    if isinstance(recipe, ReportsFacts):
        facts |= recipe.evaluation_facts(merged, dataset)
    context.progress(len(dataset.image_ids), len(dataset.image_ids), "images")
    return StepOutcome(
        metrics={name: metrics.measured(name, value) for name, value in values.items()},
        facts=facts,
    )


def _open(request: StepRequest) -> Dataset:
    if request.dataset is None:
        raise InvalidRequestError("An evaluate job needs a dataset to score against.")
    return datasets.open_dataset(request.dataset, limit=request.params.get("limit"))


def _passes(params: Mapping[str, Any], of_recipe: Sequence[str]) -> tuple[str, ...]:
    passes = tuple(params.get("passes") or of_recipe)
    if set(passes) != set(of_recipe):
        raise InvalidRequestError(
            f"The recipe is scored on the passes {', '.join(of_recipe)}, asked were {', '.join(passes)}."
        )
    return passes


def _files(request: StepRequest) -> tuple[Path, ...]:
    files = request.inputs.get("predictions", ())
    if not files:
        raise InvalidRequestError("An evaluate job needs the predictions of its infer jobs.")
    return files
