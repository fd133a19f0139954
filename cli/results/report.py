"""`npuq results report`, and its short form `npuq report`."""

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.options import Output, RunArgument
from cli.output import Format
from cli.session import open_session

if TYPE_CHECKING:
    from db.records import ResultRecord

EXAMPLES: Final = ("npuq results report @last -o md", "npuq results report @last --format modelzoo")


class Kind(StrEnum):
    """What is reported."""

    TABLE = "table"
    MODELZOO = "modelzoo"


def command(
    ctx: typer.Context,
    run: RunArgument,
    kind: Annotated[
        Kind,
        typer.Option(
            "--format",
            help="table: chip, batch size, accuracy, fps. modelzoo: the guide's accuracy block, and the comparison "
            "with the published figures by its own rule.",
        ),
    ] = Kind.TABLE,
    output: Output = Format.TABLE,
) -> None:
    """Print a run's results as the end of a guide: its table, or its accuracy with a verdict.

    With -o name: the ids of the results in it.
    """
    from cli.ids import find_run
    from cli.output import tell
    from db import results

    with open_session(ctx) as session, session.read() as connection:
        found = find_run(connection, run, session.waiting())
        measured = results.find(connection, run_id=found.run_id)
    if not measured and output in {Format.TABLE, Format.MD}:
        tell(f"run {found.run_id} has no results yet; see: npuq watch {found.run_id}")
    if kind is Kind.TABLE:
        _show_table(measured, output)
    else:
        _show_modelzoo(measured, output)


def _show_table(measured: "list[ResultRecord]", output: Format) -> None:
    from cli.output import show_many
    from cli.results.guide_view import guide_view
    from report import tables

    rows = tables.guide_rows(measured)
    if output not in {Format.TABLE, Format.MD}:
        show_many(rows, guide_view(), output)
    elif output is Format.MD:
        sys.stdout.write(tables.as_markdown(tables.guide_table(rows)))
    elif rows:
        sys.stdout.write(tables.as_text(tables.guide_table(rows)))


def _show_modelzoo(measured: "list[ResultRecord]", output: Format) -> None:
    from cli.output import show_many
    from cli.results.modelzoo_view import modelzoo_view
    from report import modelzoo
    from tasks import references, registry

    def published(recipe: str) -> references.References:
        return references.of_recipe(registry.get(recipe))

    scores = modelzoo.accuracies(measured, published)
    if output not in {Format.TABLE, Format.MD}:
        show_many(scores, modelzoo_view(), output)
        return
    text = modelzoo.as_text(scores, modelzoo.throughputs(measured, published))
    sys.stdout.write(f"```\n{text}```\n" if output is Format.MD and text else text)
