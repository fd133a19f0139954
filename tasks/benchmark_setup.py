"""What every benchmark begins with: its parameters, inputs for the model, and how much is executed at a time."""

from pathlib import Path
from typing import Final

import numpy as np

from npuq.errors import InvalidRequestError
from npuq.specs import BenchmarkProtocol
from tasks.protocols import Array, BoundTensor
from tasks.steps import StepRequest

HALF_WIDTH: Final = 0.005
"""The median is known well enough when its 95 % interval is within this of it."""
LEAST_EXECUTIONS: Final = 30
INPUT_SEED: Final = 0
_SLICE_SECONDS: Final = 0.25
_MAX_SLICE: Final = 1000


def random_feeds(inputs: tuple[BoundTensor, ...]) -> list[Array]:
    """Return the same seeded random arrays every time: standard normal, or 0 and 1 for whole numbers."""
    generator = np.random.default_rng(INPUT_SEED)
    return [
        generator.standard_normal(tensor.shape).astype(tensor.dtype)
        if tensor.dtype.kind == "f"
        else generator.integers(0, 2, tensor.shape).astype(tensor.dtype)
        for tensor in inputs
    ]


def parameters(request: StepRequest) -> tuple[Path, int, BenchmarkProtocol]:
    """Return a benchmark job's model, batch size and protocol; raises InvalidRequestError."""
    try:
        given = {name: request.params[name] for name in BenchmarkProtocol.model_fields if name in request.params}
        (model,) = request.inputs["om"]
        return model, int(request.params["batch_size"]), BenchmarkProtocol(**given)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequestError(f"A benchmark job needs batch_size and one OM file; wrong is: {error}.") from error


def slice_size(done: int, elapsed_seconds: float) -> int:
    """Return how many executions take about a quarter of a second, at least one."""
    return max(1, min(_MAX_SLICE, int(_SLICE_SECONDS * done / elapsed_seconds)))
