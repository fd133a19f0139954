"""Submitting: the plan on paper (`--dry-run`), or upload, send, and say what happens next."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.output import Format, show_many, tell, write_json
from cli.session import Session, open_session
from cli.submitting.request import Request, check_names, known_datasets
from cli.text_tables import as_json
from npuq.errors import ExitCode, InvalidRequestError

if TYPE_CHECKING:
    from npuq.client import Submission

SHOWN_UPLOAD_BYTES = 4 * 2**20  #: smaller ones are over before one can read the bar


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How to submit: only on paper, following the run, and what to print."""

    dry_run: bool = False
    watch: bool = False
    output: Format = Format.TABLE


def submit(ctx: typer.Context, request: Request, manner: Manner) -> int:
    """Submit a request and return the exit code; raises NpuqError before anything is sent when it is wrong."""
    with open_session(ctx) as session:
        check_names(session, request)
        if manner.dry_run:
            _show_plan(session, request, manner.output)
            return ExitCode.DONE
        submission = send(session, request)
        _announce(submission, manner)
        if not manner.watch:
            return ExitCode.DONE
        from cli.watching.follow import follow_run

        return follow_run(session, submission.run_id)


def send(session: Session, request: Request) -> "Submission":
    """Upload what the request names and send it; raises InvalidRequestError, ArtifactError."""
    from npuq.client import new_run_id

    kind, path = request.source()
    from db.artifacts import digest_of

    run_id = new_run_id()
    spec = request.spec(run_id, kind, digest_of(path), path.name)  # refused before the upload, if it is
    with _upload_bar(path) as advance:
        stored = session.client.upload(path, advance)
    if stored.digest != spec.source.digest:
        raise InvalidRequestError(f"{path} changed while it was read; submit it again")
    for option, file in request.conversion.files.items():
        if session.client.upload(file).digest != spec.atc.files[option]:
            raise InvalidRequestError(f"{file} changed while it was read; submit it again")
    session.deliver_outbox()
    return session.client.submit(spec)


@contextmanager
def _upload_bar(path: Path) -> Iterator[Callable[[int], None] | None]:
    size_bytes = path.stat().st_size
    if not sys.stderr.isatty() or size_bytes < SHOWN_UPLOAD_BYTES:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("uploading {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(path.name, total=size_bytes)
        yield lambda count: bar.advance(task, count)


def _announce(submission: "Submission", manner: Manner) -> None:
    if manner.output is Format.JSON:
        write_json(asdict(submission))
    elif manner.output is Format.NDJSON:
        sys.stdout.write(f"{as_json(asdict(submission))}\n")
    elif manner.output is Format.NAME or not sys.stdout.isatty():
        sys.stdout.write(f"{submission.run_id}\n")
    else:
        sys.stdout.write(f"submitted run {submission.run_id}\n")
    sys.stdout.flush()
    if not submission.seen:
        tell(
            f"{submission.problem}\nThe submission waits in the outbox and is sent again by the next npuq command; "
            "start a fleet with: npuq up"
        )
    elif sys.stdout.isatty() and not manner.watch:
        tell(
            "The scheduler plans it now and gives its jobs to the chips. Next:\n"
            "  npuq watch @last           follow it\n"
            "  npuq jobs list --run @last its jobs\n"
            "  npuq results report @last  the table, when it is over"
        )


def _show_plan(session: Session, request: Request, output: Format) -> None:
    from cli.views import plan_view
    from db import devices
    from db.artifacts import digest_of
    from npuq.client import new_run_id
    from scheduler.plan import PlanWaitsError, plan_run
    from tasks import registry

    kind, path = request.source()
    spec = request.spec(new_run_id(), kind, digest_of(path), path.name)
    dataset = None if request.dataset is None else known_datasets(session).get(request.dataset)
    with session.read() as connection:
        fleet = devices.find(connection, suspect_seconds=session.settings.timing.suspect_seconds)
    try:
        jobs = plan_run(spec, registry.get(spec.recipe), dataset, fleet)
    except PlanWaitsError as error:
        raise InvalidRequestError(f"cannot plan this yet: {error}") from error
    show_many(jobs, plan_view(), output)
    sys.stderr.write(f"{len(jobs)} jobs; nothing was sent. What equal work has left already is reused.\n")
