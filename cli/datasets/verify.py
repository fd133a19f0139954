"""`npuq datasets verify`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.datasets.registered import DatasetArgument
from cli.options import Output
from cli.output import Format
from cli.session import Session, open_session
from npuq.errors import DatasetError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from db.records import DatasetRecord
    from tasks.dataset_files import Difference
    from tasks.steps import DatasetRef

EXAMPLES: Final = ("npuq datasets verify imagenet", "npuq datasets verify imagenet --store")


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What a look found: differences, what to say when there are none, and what to do when there are."""

    differences: "Sequence[Difference]"
    good: str
    advice: str


def command(
    ctx: typer.Context,
    name: DatasetArgument,
    *,
    store: Annotated[bool, typer.Option("--store", help="Look whether the store has every file of it.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Compare every file of a dataset's folder on this machine with its manifest; exit code 1 when any differs.

    Of one that is kept in the store, and has no folder here: look whether the store has every file.
    """
    from cli.datasets.local import local_ref
    from cli.datasets.registered import get_dataset
    from cli.datasets.view import differences_view
    from cli.output import show_many

    with open_session(ctx) as session:
        found = get_dataset(session, name)
        with local_ref(session, found) as ref:
            in_store = store or (found.in_store and not ref.root.is_dir())
            look = _look_into_store(session, found, ref) if in_store else _look_into_folder(ref)
    show_many(look.differences, differences_view(f"{name}: {look.good}"), output)
    if look.differences:
        raise DatasetError(look.advice)


def _look_into_folder(ref: "DatasetRef") -> _Look:
    from cli.datasets.bytes_bar import bytes_bar
    from tasks.datasets import verify

    with bytes_bar(f"reading {ref.name}") as progress:
        differences = verify(ref, progress=progress)
    return _Look(
        differences=differences,
        good=f"all {ref.samples} images are as registered",
        advice=f"{ref.name} in {ref.root} is not what was registered: files that differ: {len(differences)}. Restore "
        "them, or register the folder as it is now under a new name: "
        f"npuq datasets add NEW_NAME {ref.root} --format {ref.format}",
    )


def _look_into_store(session: Session, dataset: "DatasetRecord", ref: "DatasetRef") -> _Look:
    from cli.datasets.keeping import absent_files
    from tasks.datasets import read_manifest

    again = f"npuq datasets add {dataset.name} FOLDER --format {dataset.format} --store"
    if not dataset.in_store:
        raise InvalidRequestError(f"{dataset.name} is not kept in the store; to keep it there: {again}")
    absent = absent_files(session.client.store, read_manifest(ref))
    return _Look(
        differences=absent,
        good="the store has every file",
        advice=f"files of {dataset.name} that the store lacks: {len(absent)}. Send them again: {again}",
    )
