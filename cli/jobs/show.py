"""`npuq jobs show`."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import typer

from cli.options import JobArgument, Output
from cli.output import Format
from cli.session import open_session

EXAMPLES: Final = ("npuq jobs show 3f2a9c01 -o json",)


def command(ctx: typer.Context, job: JobArgument, output: Output = Format.TABLE) -> None:
    """Show one job: its parameters, tries, outputs, facts and error."""
    from cli.documents import JOB_DETAIL_FIELDS, job_detail_document
    from cli.ids import find_job
    from cli.output import show_one
    from cli.views import jobs_view
    from db import job_queries

    with open_session(ctx) as session, session.read() as connection:
        found = find_job(connection, job)
        attempts = job_queries.attempts(connection, found.job_id)
    view = replace(
        jobs_view(datetime.now(UTC)),
        document=lambda record: job_detail_document(record, attempts),
        fields=JOB_DETAIL_FIELDS,
    )
    show_one(found, view, output)
