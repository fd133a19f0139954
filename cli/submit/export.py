"""`npuq submit export`."""

from dataclasses import dataclass
from typing import Final

import typer

from cli.submitting.command import takes
from cli.submitting.options import FromWeights, Run
from npuq.states import JobKind

EXAMPLES: Final = ("npuq submit export mobilenet_v1 --weights mobilenet_v1.pth.tar --watch",)


@dataclass(frozen=True, kw_only=True)
class Options(Run, FromWeights):
    """What it takes."""


@takes(Options)
def command(ctx: typer.Context, options: Options) -> int:
    """Export a checkpoint to ONNX."""
    from cli.submitting.submission import submit

    return submit(ctx, options, JobKind.EXPORT)
