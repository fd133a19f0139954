"""Submitting: refuse what is wrong, upload, send, and say what happens next."""

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.output import Format, tell, write_json
from cli.session import Session, open_session
from cli.submitting.chips import known_devices, warn_of_absences
from cli.submitting.dry_run import show_plan
from cli.submitting.options import Run
from cli.submitting.pins import read_pins
from cli.submitting.request import Request, check_names
from cli.submitting.upload import upload_bar
from cli.text_tables import as_json
from npuq.errors import DatabaseError, ExitCode, InvalidRequestError
from npuq.states import JobKind

if TYPE_CHECKING:
    from npuq.client import Submission


def submit(ctx: typer.Context, options: Run, *goals: JobKind) -> int:
    """Submit what a command's options ask for, or print its plan; returns the exit code.

    Raises:
        NpuqError: it is wrong; then nothing was sent.
    """
    request = Request.of(options, goals)
    with open_session(ctx) as session:
        request = read_pins(request, known_devices(session))
        if options.dry_run:
            show_plan(session, request, options.output)
            return ExitCode.DONE
        _check(session, request)
        submission = send(session, request)
        _announce(submission, options)
        if not options.watch:
            return ExitCode.DONE
        from cli.watching.follow import follow_run

        return follow_run(session, submission.run_id)


def _check(session: Session, request: Request) -> None:
    """Refuse names that cannot be meant, and warn of what the run will wait for.

    Raises:
        NotFoundError: an unknown recipe or dataset.
        InvalidRequestError: an unknown chip, or a pass pinned to the wrong one.
    """
    from scheduler.pins import pinned_soc_version
    from scheduler.plan import check_soc_version
    from tasks import registry

    try:
        check_names(session, request)
    except DatabaseError:  # one may submit offline; the planner looks again
        tell(
            f"note: nobody here can be asked for the dataset {request.dataset!r}; the run fails unless it is "
            f"registered when the fleet plans it: npuq datasets add {request.dataset} FOLDER"
        )
    fleet = known_devices(session)
    if fleet is not None:
        check_soc_version(request.soc, fleet)
        pinned_soc_version(request.pins, registry.get(request.recipe), fleet, request.soc)
        warn_of_absences(request, fleet)


def send(session: Session, request: Request) -> "Submission":
    """Upload what the request names and send it; raises InvalidRequestError, ArtifactError."""
    from db.artifacts import digest_of
    from npuq.client import new_run_id
    from scheduler.plan import check_conversions, check_sizes
    from tasks import registry

    kind, path = request.source()
    run_id = new_run_id()
    spec = request.spec(run_id, kind, digest_of(path), path.name)  # refused before the upload, if it is
    recipe = registry.get(spec.recipe, spec.recipe_options)
    check_sizes(spec, recipe)
    check_conversions(spec, recipe)
    with upload_bar(path) as advance:
        stored = session.client.upload(path, advance)
    if stored.digest != spec.source.digest:
        raise InvalidRequestError(f"{path} changed while it was read; submit it again")
    if request.image_list is not None:
        _upload_text(session, request.image_list.text)
    for option, file in request.conversion.files.items():
        if session.client.upload(file).digest != spec.atc.files[option]:
            raise InvalidRequestError(f"{file} changed while it was read; submit it again")
    session.deliver_outbox()
    return session.client.submit(spec)


def _upload_text(session: Session, text: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "list"
        path.write_bytes(text)
        session.client.upload(path)


def _announce(submission: "Submission", options: Run) -> None:
    if options.output is Format.JSON:
        write_json(asdict(submission))
    elif options.output is Format.NDJSON:
        sys.stdout.write(f"{as_json(asdict(submission))}\n")
    elif options.output is Format.NAME or not sys.stdout.isatty():
        sys.stdout.write(f"{submission.run_id}\n")
    else:
        sys.stdout.write(f"submitted run {submission.run_id}\n")
    sys.stdout.flush()
    if options.watch:
        return  # what follows tells more
    if not submission.seen:
        tell(
            f"{submission.problem}\nThe submission waits in the outbox and is sent again by the next npuq command; "
            "start a fleet with: npuq up"
        )
    elif sys.stdout.isatty():
        tell(
            "The scheduler plans it now and gives its jobs to the chips. Next:\n"
            "  npuq watch @last           follow it\n"
            "  npuq jobs list --run @last its jobs\n"
            "  npuq results report @last  the table, when it is over"
        )
