"""`npuq submit infer`."""

from dataclasses import dataclass
from typing import Final

import typer

from cli.submitting.command import takes
from cli.submitting.options import Conversion, FromOm, FromOnnx, FromWeights, Images, Pins, Run
from npuq.states import JobKind

EXAMPLES: Final = (
    "npuq submit infer mobilenet_v1 --weights mobilenet_v1.pth.tar --dataset imagenet --limit 500",
    "npuq submit infer mobilenet_v1 --onnx m.onnx --dataset imagenet --pin-pass main=h1.npu0.0",
)


@dataclass(frozen=True, kw_only=True)
class Options(Run, Pins, Conversion, Images, FromOm, FromOnnx, FromWeights):
    """What it takes."""


@takes(Options)
def command(ctx: typer.Context, options: Options) -> int:
    """Run a model over a dataset and keep its predictions."""
    from cli.submitting.submission import submit

    return submit(ctx, options, JobKind.INFER)
