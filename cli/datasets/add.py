"""`npuq datasets add`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.options import Folder
from cli.session import Session, open_session
from npuq.errors import InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from cli.datasets.registration import Registration

USUAL_FORMAT: Final = "imagenet"
EXAMPLES: Final = (
    "npuq datasets add imagenet /data/imagenet --format imagenet",
    "npuq datasets add small ./small --format imagenet --store",
)


def command(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    folder: Folder,
    *,
    dataset_format: Annotated[
        str | None, typer.Option("--format", help=f"How the folder is laid out.  \\[default: {USUAL_FORMAT}]")
    ] = None,
    store: Annotated[
        bool, typer.Option("--store", help="Keep all files in the store; workers get from there what they need.")
    ] = False,
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="HOST", help="Say where this host has it; other hosts look where they did."),
    ] = None,
) -> None:
    """Register a dataset: read every file of its folder and keep a manifest of them, which no later change escapes.

    Workers look for it in the same folder, in the one that --host named for them, or in the store.
    """
    if store and host is not None:
        raise InvalidRequestError("--host says where one host has its copy, --store keeps one for all: give one")
    with open_session(ctx) as session:
        if host is None:
            _add(session, name, folder, dataset_format or USUAL_FORMAT, in_store=store)
        else:
            _add_on_host(session, name, folder, host, dataset_format)


def _add(session: Session, name: str, folder: Path, dataset_format: str, *, in_store: bool) -> None:
    from cli.datasets.registration import register
    from cli.output import tell

    done = register(session, name, folder, dataset_format, in_store=in_store)
    for note in (*done.facts.notes, *_changes(name, done, in_store=in_store)):
        tell(f"note: {note}")
    tell(f"{name}: {done.facts.samples} images, digest {done.facts.digest[:12]}{_kept(done)}")


def _changes(name: str, done: "Registration", *, in_store: bool) -> list[str]:
    """Return what is no longer as it was, in sentences."""
    before = done.before
    if before is None:
        return []
    told = []
    if before.digest != done.facts.digest:
        told.append(
            f"{name} was another dataset until now ({before.digest[:12]}); its results stay, and runs that "
            "were planned with it have to be submitted again"
        )
        if before.folders:
            told.append(f"the folders that single hosts had for it are forgotten: {', '.join(before.folders)}")
    if before.in_store and not in_store:
        told.append(f"{name} was kept in the store until now; from here on workers look for it in their folders")
    return told


def _kept(done: "Registration") -> str:
    from cli.words import size

    if done.kept is None:
        return ""
    sent = f"{done.kept.sent} sent now ({size(done.kept.sent_bytes)})" if done.kept.sent else "all there already"
    return f"; {done.kept.files} files in the store, {sent}"


def _add_on_host(session: Session, name: str, folder: Path, host: str, dataset_format: str | None) -> None:
    """Note a host's folder; a dataset that nobody has registered yet is registered from it, if it can be read here."""
    from cli.datasets.registered import get_dataset
    from cli.datasets.registration import register_on_host
    from cli.output import tell

    if not folder.is_absolute():
        raise InvalidRequestError(f"{folder}: name the folder as {host} sees it, from / on")
    try:
        found = get_dataset(session, name)
    except NotFoundError as error:
        if not folder.is_dir():
            raise NotFoundError(
                f"no dataset {name!r} is registered, so nothing says what should be in {folder} on {host}: register "
                f"it first where its files can be read: npuq datasets add {name} FOLDER --format FORMAT"
            ) from error
        _add(session, name, folder, dataset_format or USUAL_FORMAT, in_store=False)
        found = get_dataset(session, name)
    if dataset_format not in {None, found.format}:
        raise InvalidRequestError(f"{name} is registered in {found.format} format, not in {dataset_format} format")
    register_on_host(session, found, folder, host)
    known = _hosts(session)
    if host not in known:
        tell(f"note: no host {host} has joined the fleet yet; known: {', '.join(known) or 'none'}")
    tell(f"{host} has {name} in {folder}; compare its files there with: npuq datasets verify {name}")


def _hosts(session: Session) -> list[str]:
    from db import devices

    with session.read() as connection:
        fleet = devices.find(connection, suspect_seconds=session.settings.timing.suspect_seconds)
    return sorted({device.host for device in fleet})
