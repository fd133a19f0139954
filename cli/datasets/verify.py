"""`npuq datasets verify`."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.datasets.registered import DatasetArgument
from cli.options import Output
from cli.output import Format
from cli.session import Session, open_session
from npuq.errors import DatasetError, InvalidRequestError

if TYPE_CHECKING:
    from db.records import DatasetRecord
    from tasks.dataset_files import Difference

EXAMPLES: Final = ("npuq datasets verify imagenet", "npuq datasets verify imagenet --store")


def command(
    ctx: typer.Context,
    name: DatasetArgument,
    *,
    store: Annotated[bool, typer.Option("--store", help="Look whether the store has every file of it.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Compare every file of a dataset's folder on this machine with its manifest; exit code 1 when any differs."""
    from cli.datasets.registered import get_dataset
    from cli.datasets.view import differences_view
    from cli.output import show_many

    with open_session(ctx) as session:
        found = get_dataset(session, name)
        differences, advice = _in_store(session, found) if store else _in_folder(session, found)
    good = "the store has every file" if store else f"all {found.samples} images are as registered"
    show_many(differences, differences_view(f"{name}: {good}"), output)
    if differences:
        raise DatasetError(advice)


def _in_folder(session: Session, dataset: "DatasetRecord") -> "tuple[list[Difference], str]":
    """Return what differs in the folder, and what to do then."""
    from cli.datasets.bytes_bar import bytes_bar
    from cli.datasets.local import local_ref
    from tasks.datasets import verify

    with local_ref(session, dataset) as ref, bytes_bar(f"reading {dataset.name}") as progress:
        differences = verify(ref, progress=progress)
    return differences, (
        f"{dataset.name} in {ref.root} is not what was registered: files that differ: {len(differences)}. "
        "Restore them, or register the folder as it is now under a new name: "
        f"npuq datasets add NEW_NAME {ref.root} --format {dataset.format}"
    )


def _in_store(session: Session, dataset: "DatasetRecord") -> "tuple[list[Difference], str]":
    """Return what the store lacks, and what to do then."""
    from cli.datasets.keeping import absent_files
    from cli.datasets.local import local_ref
    from tasks.datasets import read_manifest

    if not dataset.in_store:
        raise InvalidRequestError(
            f"{dataset.name} is not kept in the store; to keep it there: "
            f"npuq datasets add {dataset.name} FOLDER --format {dataset.format} --store"
        )
    with local_ref(session, dataset) as ref:
        absent = absent_files(session.client.store, read_manifest(ref))
    return absent, (
        f"files of {dataset.name} that the store lacks: {len(absent)}. Send them again: "
        f"npuq datasets add {dataset.name} FOLDER --format {dataset.format} --store"
    )
