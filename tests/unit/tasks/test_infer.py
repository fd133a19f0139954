from pathlib import Path
from typing import Any

import pytest

from npuq.errors import InvalidRequestError
from npuq.states import JobKind
from tasks import infer
from tasks.predictions import read_predictions
from tasks.protocols import ClassScores
from tasks.steps import DatasetRef, StepRequest
from tests.unit.tasks.chip_context import ChipContext


def request_for(folder: Path, **params: Any) -> StepRequest:
    """Return an infer request over samples 2 to 12 in batches of four, changed by `params`."""
    return StepRequest(
        job_id="0" * 32,
        attempt=1,
        kind=JobKind.INFER,
        recipe="any",
        params={"batch_size": 4, "start": 2, "stop": 12, "precision": "fp16", "limit": None} | params,
        inputs={"om": (folder / "m.om",)},
        input_digests={"om": ("0" * 64,)},
        workdir=folder,
        dataset=DatasetRef(
            name="numbers", format="imagenet", root=folder, digest="d" * 64, samples=20, manifest=folder / "m"
        ),
    )


def test_a_shard_becomes_predictions_and_figures(tmp_path: Path) -> None:
    """Every sample of the range is predicted once, padding is counted and left out."""
    context = ChipContext(request_for(tmp_path))
    outcome = infer.run(context)
    (path,) = outcome.outputs["predictions"]
    shard = read_predictions(path)
    assert shard.pass_name == "main"
    found = {name: value.scores.tolist() for name, value in shard.predictions.items() if isinstance(value, ClassScores)}
    assert found == {f"image_{number}": [2.0 * number] * 2 for number in range(2, 12)}
    facts = outcome.facts
    assert (facts["samples"], facts["batches"], facts["padded_rows"]) == (10, 3, 2)
    assert facts["chip_busy_ms"] == 6.0
    assert facts["chip_busy_share"] == pytest.approx(6.0 / facts["wall_ms"], rel=0.01)
    assert context.progress_seen == [(4, 10, "images"), (8, 10, "images"), (10, 10, "images")]


def test_outputs_are_handed_over_between_executions(tmp_path: Path) -> None:
    """The postprocessing of one batch can overlap the execution of the next."""
    context = ChipContext(request_for(tmp_path))
    infer.run(context)
    assert context.chip.log == ["run", "postprocess"] * 3


def test_the_pass_reaches_feeders_and_file(tmp_path: Path) -> None:
    """A recipe with two passes runs two infer jobs."""
    context = ChipContext(request_for(tmp_path, **{"pass": "flipped"}))
    (path,) = infer.run(context).outputs["predictions"]
    assert context.pool.orders[0].pass_name == "flipped"
    assert read_predictions(path).pass_name == "flipped"


@pytest.mark.parametrize(
    "params",
    [
        {"start": 12, "stop": 12},
        {"start": -1},
        {"stop": 21},
        {"batch_size": 0},
        {"batch_size": "many"},
        {"stop": None},
        {"batch_size": 8},
    ],
)
def test_impossible_ranges_and_batches_are_refused(tmp_path: Path, params: dict[str, Any]) -> None:
    """Also an OM of another batch size, before anything is executed."""
    context = ChipContext(request_for(tmp_path, **params))
    with pytest.raises(InvalidRequestError):
        infer.run(context)
    assert context.chip.runs == []
