"""`npuq submit infer`."""

from dataclasses import dataclass
from typing import Final

import typer

from cli.submitting.command import takes
from cli.submitting.options import Conversion, FromOm, FromOnnx, FromWeights, Images, Run
from npuq.states import JobKind

EXAMPLES: Final = (
    "npuq submit infer mobilenet_v1 --weights mobilenet_v1.pth.tar --dataset imagenet --limit 500",
    "npuq submit infer mobilenet_v1 --onnx mobilenet_v1.onnx --dataset imagenet --images part.txt",
)


@dataclass(frozen=True, kw_only=True)
class Options(Run, Conversion, Images, FromOm, FromOnnx, FromWeights):
    """What it takes."""


@takes(Options)
def command(ctx: typer.Context, options: Options) -> int:
    """Run a model over a dataset and keep its predictions."""
    from cli.submitting.submission import submit

    return submit(ctx, options, JobKind.INFER)
