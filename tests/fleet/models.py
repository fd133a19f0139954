"""A model as small as MobileNetV1's interface allows, and runs that measure it."""

from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from npuq.client import Client, new_run_id
from npuq.precision import Precision
from npuq.specs import BenchmarkProtocol, RunSpec, Source, SourceKind
from npuq.states import JobKind
from tests.fleet.fleet import SOC_VERSION

RECIPE: Final = "mobilenet_v1"
_IMAGE: Final = ("N", 3, 224, 224)
_CLASSES: Final = 1000


def write_tiny_onnx(path: Path, input_name: str = "image", seed: int = 0, first: str | None = None) -> Path:
    """Write a model that averages each channel and maps the three numbers to 1000 classes; returns the path.

    Args:
        path: where.
        input_name: the recipe says `image`; any other name is a mistake that ATC has to find.
        seed: of the weights, so that two models are different artifacts.
        first: type of an operator before all others, which ONNX need not know; None: there is none.
    """
    weights = np.random.default_rng(seed).standard_normal((_IMAGE[1], _CLASSES)).astype(np.float32)
    nodes = [
        *([] if first is None else [helper.make_node(first, [input_name], ["prepared"], name="first")]),
        helper.make_node("GlobalAveragePool", [input_name if first is None else "prepared"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["class"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, _IMAGE)],
        [helper.make_tensor_value_info("class", TensorProto.FLOAT, ("N", _CLASSES))],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if first is None:
        onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def upload(client: Client, path: Path) -> Source:
    """Store a model and return it as a source of runs."""
    artifact = client.upload(path)
    return Source(kind=SourceKind.ONNX, digest=artifact.digest, size_bytes=artifact.size_bytes, name=path.name)


def benchmark_spec(
    source: Source,
    *,
    batch_sizes: tuple[int, ...] = (1,),
    precisions: tuple[Precision, ...] = (Precision.FP16,),
    loops: int = 1,
) -> RunSpec:
    """Return a run of one benchmark job per batch size and precision; nothing measured before is reused."""
    return RunSpec(
        run_id=new_run_id(),
        name="tiny",
        submitted_at=datetime.now(UTC),
        submitter="fleet",
        goals=(JobKind.BENCHMARK,),
        recipe=RECIPE,
        source=source,
        batch_sizes=batch_sizes,
        precisions=precisions,
        soc_version=SOC_VERSION,
        benchmark=BenchmarkProtocol(warmup=0, loops=loops, require_idle=False),
        fresh=True,
    )


def draw_specs(source: Source, benchmarks: int, random: Random, *, loops: int) -> list[RunSpec]:
    """Return runs with so many benchmark jobs in all, of one to eight jobs each.

    They share four batch sizes and two precisions, so that eight conversions serve all of them.
    """
    specs: list[RunSpec] = []
    left = benchmarks
    while left:
        precisions = (Precision.FP16,) if left == 1 or random.random() < 0.5 else (Precision.FP16, Precision.FP32)
        width = random.randint(1, min(4, left // len(precisions)))
        batch_sizes = tuple(sorted(random.sample((1, 2, 3, 4), width)))
        specs.append(benchmark_spec(source, batch_sizes=batch_sizes, precisions=precisions, loops=loops))
        left -= width * len(precisions)
    return specs
