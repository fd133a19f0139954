"""`npuq submit benchmark`."""

from dataclasses import dataclass
from typing import Final

import typer

from cli.submitting.command import takes
from cli.submitting.options import Conversion, FromOm, FromOnnx, FromWeights, Loops, Measured, Run
from npuq.states import JobKind

EXAMPLES: Final = (
    "npuq submit benchmark mobilenet_v1 --weights mobilenet_v1.pth.tar --batch-sizes 1,16",
    "npuq submit benchmark mobilenet_v1 --om mobilenet_v1_bs1.om --loops 1000 --scope card",
)


@dataclass(frozen=True, kw_only=True)
class Options(Run, Measured, Loops, Conversion, FromOm, FromOnnx, FromWeights):
    """What it takes."""


@takes(Options)
def command(ctx: typer.Context, options: Options) -> int:
    """Measure a model's throughput and latency, on one idle chip, and with --scope card on all of a card at once."""
    from cli.submitting.submission import submit

    return submit(ctx, options, JobKind.BENCHMARK)
