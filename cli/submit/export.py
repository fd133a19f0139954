"""`npuq submit export`."""

import typer

from cli import options
from cli.output import Format
from npuq.states import JobKind


def command(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    recipe: options.Recipe,
    *,
    weights: options.Weights = None,
    fresh: options.Fresh = False,
    priority: options.Priority = 0,
    name: options.RunName = None,
    dry_run: options.DryRun = False,
    watch: options.Watch = False,
    output: options.Output = Format.TABLE,
) -> int:
    """Export a checkpoint to ONNX."""
    from cli.submitting.request import Request
    from cli.submitting.submission import Manner, submit

    request = Request(
        goals=(JobKind.EXPORT,),
        recipe=recipe,
        weights=weights,
        fresh=fresh,
        priority=priority,
        name=name,
    )
    return submit(ctx, request, Manner(dry_run=dry_run, watch=watch, output=output))
