"""`npuq submit evaluate`."""

from dataclasses import dataclass
from typing import Final

import typer

from cli.submitting.command import takes
from cli.submitting.options import Conversion, FromOm, FromOnnx, FromWeights, Images, Pins, Reference, Run
from npuq.states import JobKind

EXAMPLES: Final = (
    "npuq submit evaluate mobilenet_v1 --weights mobilenet_v1.pth.tar --dataset imagenet --watch",
    "npuq submit evaluate mobilenet_v1 --onnx mobilenet_v1.onnx --dataset imagenet --reference",
)


@dataclass(frozen=True, kw_only=True)
class Options(Run, Pins, Reference, Conversion, Images, FromOm, FromOnnx, FromWeights):
    """What it takes."""


@takes(Options)
def command(ctx: typer.Context, options: Options) -> int:
    """Measure a model's accuracy on a dataset."""
    from cli.submitting.submission import submit

    return submit(ctx, options, JobKind.EVALUATE)
