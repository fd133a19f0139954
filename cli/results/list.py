"""`npuq results list`."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

import typer

from cli.options import Limit, Output
from cli.output import Format
from cli.session import open_session

EXAMPLES: Final = (
    "npuq results list --recipe mobilenet_v1 --kind performance --since 30d",
    "npuq results list --run @last -o csv",
)


class ResultKind(StrEnum):
    """What was measured."""

    ACCURACY = "accuracy"
    PERFORMANCE = "performance"


def command(  # noqa: PLR0913 - one option per filter
    ctx: typer.Context,
    *,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Only results of this recipe.")] = None,
    soc: Annotated[str | None, typer.Option("--soc", help="Only this chip, for example Ascend310P3.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Only this batch size.")] = None,
    kind: Annotated[ResultKind | None, typer.Option("--kind", help="Only this kind.")] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only this run's (or @last).")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Since a time ago (7d) or a date (2026-11-01).")] = None,
    output: Output = Format.TABLE,
    limit: Limit = 1000,
) -> None:
    """List results, newest first; with --run also those that the run reused."""
    from cli.ids import find_run
    from cli.output import show_many
    from cli.views import results_view
    from cli.words import parse_since
    from db import results

    now = datetime.now(UTC)
    moment = None if since is None else parse_since(since, now)
    with open_session(ctx) as session, session.read() as connection:
        found = results.find(
            connection,
            recipe=recipe,
            soc_version=soc,
            batch_size=batch_size,
            kind=kind,
            run_id=None if run is None else find_run(connection, run, session.waiting()).run_id,
            since=moment,
            limit=limit + 1,
        )
    show_many(found, results_view(now), output, limit)
