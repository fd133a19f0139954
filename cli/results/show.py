"""`npuq results show`."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from cli.options import Output
from cli.output import Format
from cli.session import open_session

EXAMPLES: Final = ("npuq results show 5d41402a -o json",)


def command(
    ctx: typer.Context,
    result: Annotated[str, typer.Argument(metavar="RESULT", help="A result: a unique beginning of its id.")],
    output: Output = Format.TABLE,
) -> None:
    """Show one result with everything that is known of how it came about."""
    from cli.documents import RESULT_DETAIL_FIELDS, result_detail_document
    from cli.ids import find_result
    from cli.output import show_one
    from cli.views import results_view

    with open_session(ctx) as session, session.read() as connection:
        found = find_result(connection, result)
    view = replace(results_view(datetime.now(UTC)), document=result_detail_document, fields=RESULT_DETAIL_FIELDS)
    show_one(found, view, output)
