"""`npuq submit convert`."""

from dataclasses import dataclass
from typing import Final

import typer

from cli.submitting.command import takes
from cli.submitting.options import Conversion, FromOnnx, FromWeights, Run
from npuq.states import JobKind

EXAMPLES: Final = (
    "npuq submit convert mobilenet_v1 --weights mobilenet_v1.pth.tar --batch-sizes 1,8",
    "npuq submit convert mobilenet_v1 --onnx mobilenet_v1.onnx --soc Ascend310P3 --atc log=info",
)


@dataclass(frozen=True, kw_only=True)
class Options(Run, Conversion, FromOnnx, FromWeights):
    """What it takes."""


@takes(Options)
def command(ctx: typer.Context, options: Options) -> int:
    """Convert a checkpoint or an ONNX model with ATC, once per batch size."""
    from cli.submitting.submission import submit

    return submit(ctx, options, JobKind.CONVERT)
