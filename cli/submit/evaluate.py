"""`npuq submit evaluate`."""

import typer

from cli import options
from cli.output import Format
from npuq.states import JobKind


def command(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    recipe: options.Recipe,
    *,
    weights: options.Weights = None,
    onnx: options.Onnx = None,
    om: options.Om = None,
    dataset: options.Dataset = None,
    batch_sizes: options.BatchSizes = "1",
    precision: options.Precisions = "fp16",
    soc: options.Soc = None,
    atc: options.Atc = None,
    atc_table: options.AtcTable = None,
    cann: options.Cann = None,
    limit: options.SampleLimit = None,
    reference: options.Reference = False,
    fresh: options.Fresh = False,
    priority: options.Priority = 0,
    name: options.RunName = None,
    dry_run: options.DryRun = False,
    watch: options.Watch = False,
    output: options.Output = Format.TABLE,
) -> int:
    """Measure a model's accuracy on a dataset."""
    from cli.submitting.request import Request
    from cli.submitting.submission import Manner, submit

    request = Request(
        goals=(JobKind.EVALUATE,),
        recipe=recipe,
        weights=weights,
        onnx=onnx,
        om=om,
        dataset=dataset,
        batch_sizes=batch_sizes,
        precision=precision,
        soc=soc,
        atc=tuple(atc or ()),
        atc_table=atc_table,
        cann=cann,
        limit=limit,
        reference=reference,
        fresh=fresh,
        priority=priority,
        name=name,
    )
    return submit(ctx, request, Manner(dry_run=dry_run, watch=watch, output=output))
