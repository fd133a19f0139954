"""`npuq sweep`."""

from dataclasses import dataclass
from typing import Annotated, Final

import typer

from cli.submitting.command import takes
from cli.submitting.options import (
    Conversion,
    FromOm,
    FromOnnx,
    FromWeights,
    Images,
    Loops,
    Measured,
    Pins,
    Run,
)
from npuq.errors import InvalidRequestError
from npuq.states import JobKind

EXAMPLES: Final = (
    "npuq sweep mobilenet_v1 --weights mobilenet_v1.pth.tar --dataset imagenet --batch-sizes 1,4,8",
    "npuq sweep mobilenet_v1 --weights mobilenet_v1.pth.tar --dataset imagenet --dry-run",
)


@dataclass(frozen=True, kw_only=True)
class Options(Run, Pins, Measured, Loops, Conversion, Images, FromOm, FromOnnx, FromWeights):
    """What it takes."""

    batch_sizes: Annotated[
        str | None,
        typer.Option(
            "--batch-sizes",
            "--batch-size",
            metavar="1,4,8",
            help="Separated by commas. Default: 1,4,8,16,32,64, or what the recipe prefers.",
        ),
    ] = None


@takes(Options)
def command(ctx: typer.Context, options: Options) -> int:
    """Measure a model's accuracy and throughput at several batch sizes, on every free chip at once."""
    from cli.submitting.submission import submit

    if options.dataset is None:
        raise InvalidRequestError("a sweep measures accuracy too: say on which dataset with --dataset NAME")
    return submit(ctx, options, JobKind.EVALUATE, JobKind.BENCHMARK)
