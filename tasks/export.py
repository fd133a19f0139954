"""The export step: a published checkpoint becomes ONNX, and the ONNX is shown to compute the same.

The comparison runs on the CPU with onnxruntime: what ATC gets is known to be right before any chip is asked.
"""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from npuq.errors import CheckpointError, ExportError, InvalidRequestError, NpuqError, ToolMissingError
from tasks import registry, torch_memory, torch_threads
from tasks.onnx_export import OPSET
from tasks.protocols import Array, Recipe
from tasks.steps import StepContext, StepOutcome

if TYPE_CHECKING:
    import torch

#: Largest allowed difference between onnxruntime and torch, times the spread of the output where that is above one.
TOLERANCE: Final = 1e-4
_COMPARED_SAMPLES: Final = 2
_COMPARE_SEED: Final = 20_230_601
_STAGES: Final = 3


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well two runs of a network agree.

    Attributes:
        max_abs_difference: over all outputs.
        tolerance: what was allowed for the output that came closest to it.
    """

    max_abs_difference: float
    tolerance: float


def run(context: StepContext) -> StepOutcome:
    """Export the checkpoint of input role `weights` to `<recipe>.onnx`, output role `onnx`.

    Parameter of the request: `batch_size` (int or None; default None: a dynamic batch axis).
    Facts: `max_abs_difference`, `tolerance`, `opset`, `parameters`, `torch`, `onnxruntime`, `export_seconds`.

    Raises:
        CheckpointError: the weights do not fit, or are refused.
        ExportError: the exporter failed, or ONNX and torch disagree.
        ToolMissingError: torch, onnx or onnxruntime is not installed on this host.
    """
    request = context.request
    recipe = registry.get(request.recipe, request.recipe_options)
    weights = request.inputs.get("weights", ())
    if len(weights) != 1:
        raise InvalidRequestError(f"An export job needs one weights file, it has {len(weights)}.")
    onnx_path = request.workdir / f"{recipe.id}.onnx"
    started = time.monotonic()
    try:
        torch_memory.keep_blocks()
        torch_threads.use_few_threads()
        import onnxruntime
        import torch
    except ImportError as error:
        raise ToolMissingError(
            f"This host cannot export: {error}. Install npuq with its extras: pip install 'npuq[worker,export]'."
        ) from error
    network = recipe.network()
    _say(f"reading {weights[0].name} ({weights[0].stat().st_size} bytes) for {recipe.id}, torch {torch.__version__}")
    _load(recipe, network, weights[0])
    context.progress(1, _STAGES, "stages")
    _say(f"exporting to ONNX opset {OPSET}")
    export_checked(recipe, network, onnx_path, request.params.get("batch_size"))
    context.progress(2, _STAGES, "stages")
    _say(f"comparing {onnx_path.name} with torch, onnxruntime {onnxruntime.__version__}")
    agreement = compare(recipe, network, onnx_path, request.params.get("batch_size"))
    context.progress(_STAGES, _STAGES, "stages")
    _say(f"{onnx_path.name}: largest difference to torch {agreement.max_abs_difference:.2e}")
    return StepOutcome(
        outputs={"onnx": (onnx_path,)},
        facts={
            "max_abs_difference": agreement.max_abs_difference,
            "tolerance": agreement.tolerance,
            "opset": OPSET,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "torch": torch.__version__,
            "onnxruntime": onnxruntime.__version__,
            "export_seconds": round(time.monotonic() - started, 3),
        },
    )


def _say(line: str) -> None:
    """Write a line to the attempt's log, at once: the next thing may end the process."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _load(recipe: Recipe, network: "torch.nn.Module", weights: Path) -> None:
    """Load the weights; raises CheckpointError that names the file, whatever the recipe says."""
    try:
        recipe.load_weights(network, weights)
    except CheckpointError as error:
        if weights.name in error.info.message:
            raise
        raise CheckpointError.from_info(replace(error.info, message=f"{weights.name}: {error.info.message}")) from error


def export_checked(recipe: Recipe, network: "torch.nn.Module", onnx_path: Path, batch_size: int | None) -> None:
    """Export and let onnx check the file; raises ExportError with the exporter's own words."""
    import onnx

    try:
        recipe.export(network, onnx_path, batch_size)
        onnx.checker.check_model(str(onnx_path), full_check=True)
    except NpuqError:
        raise
    except Exception as error:  # the exporter raises whatever its passes raise
        raise ExportError(
            f"{recipe.id} could not be exported to ONNX opset {OPSET}: {type(error).__name__}. "
            "The exporter's own words are in the detail.",
            detail=str(error),
        ) from error


def compare(recipe: Recipe, network: "torch.nn.Module", onnx_path: Path, batch_size: int | None) -> Agreement:
    """Run ONNX (onnxruntime, CPU) and torch on the same seeded batch.

    Raises:
        ExportError: names, shapes or values differ; a value by more than `TOLERANCE` times the spread of its output.
    """
    generator = np.random.default_rng(_COMPARE_SEED)
    feeds = {
        spec.name: generator.standard_normal(spec.at_batch(batch_size or _COMPARED_SAMPLES), dtype=np.float32)
        for spec in recipe.inputs
    }
    expected = _run_torch(network, feeds)
    actual = _run_onnx(recipe, onnx_path, feeds)
    worst = Agreement(max_abs_difference=0.0, tolerance=TOLERANCE)
    for spec, want, got in zip(recipe.outputs, expected, actual, strict=True):
        if want.shape != got.shape:
            raise ExportError(f"The output {spec.name} has shape {got.shape} in ONNX and {want.shape} in torch.")
        tolerance = TOLERANCE * max(1.0, float(np.ptp(want)))
        difference = float(np.max(np.abs(want - got)))
        if not difference <= tolerance:  # also true for NaN
            raise ExportError(
                f"The exported ONNX does not compute what torch does: {spec.name} differs by {difference:.3g}, "
                f"allowed is {tolerance:.3g}. Do not use it; export again, or report the recipe.",
                code="export_differs",
            )
        if difference / tolerance >= worst.max_abs_difference / worst.tolerance:
            worst = Agreement(max_abs_difference=difference, tolerance=tolerance)
    return worst


def _run_torch(network: "torch.nn.Module", feeds: dict[str, Array]) -> list[Array]:
    import torch

    with torch.inference_mode():
        outputs = network(*(torch.from_numpy(array) for array in feeds.values()))
    return [output.numpy() for output in (outputs if isinstance(outputs, (tuple, list)) else [outputs])]


def _run_onnx(recipe: Recipe, onnx_path: Path, feeds: dict[str, Array]) -> list[Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch_threads.MAX_THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the cores are shared
    session = onnxruntime.InferenceSession(str(onnx_path), options, providers=["CPUExecutionProvider"])
    wanted = [spec.name for spec in recipe.outputs]
    names = [output.name for output in session.get_outputs()]
    if names != wanted:
        raise ExportError(f"The exported ONNX has the outputs {', '.join(names)}; wanted are {', '.join(wanted)}.")
    return [np.asarray(output) for output in session.run(wanted, feeds)]
