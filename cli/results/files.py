"""`npuq results files`."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.session import open_session
from npuq.errors import InvalidRequestError

if TYPE_CHECKING:
    from db.records import ResultRecord

EXAMPLES: Final = ("npuq results files 5d41402a /tmp/pyramidbox",)


def command(
    ctx: typer.Context,
    result: Annotated[str, typer.Argument(metavar="RESULT", help="An accuracy: a unique beginning of its id.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An empty or a new folder.")],
) -> None:
    """Write what a result scored as the files that the dataset's own tools read, for WIDER FACE one per image."""
    from cli.ids import find_result
    from cli.output import tell
    from cli.words import counted
    from db import job_queries
    from db.artifacts import materialise
    from tasks import registry, result_files

    root = folder.expanduser()
    with open_session(ctx) as session:
        with session.read() as connection:
            found = find_result(connection, result)
            job = job_queries.get(connection, found.job_id)
            digests = () if job is None else job_queries.inputs_of(connection, job).get("predictions", ())
        recipe = registry.get(found.recipe, found.recipe_options)
        _refuse(found, recipe.version, digests)
        with tempfile.TemporaryDirectory() as scratch:
            shards = [
                materialise(session.client.store, digest, Path(scratch) / f"{number}.npz")
                for number, digest in enumerate(digests)
            ]
            written = result_files.write(recipe, shards, root)
    tell(f"wrote {counted(written, 'file')}: {root}")


def _refuse(result: "ResultRecord", version: int, predictions: tuple[str, ...]) -> None:
    """Raise InvalidRequestError for what has no predictions in the store, or those of another version of a recipe."""
    if not predictions:
        why = "it is a reference" if result.kind == "accuracy" else f"it is a {result.kind}"
        raise InvalidRequestError(f"result {result.result_id} has no predictions in the store: {why}")
    if result.recipe_version != version:
        raise InvalidRequestError(
            f"result {result.result_id} is of version {result.recipe_version} of {result.recipe}, here is {version}, "
            "which would write other files: run it again"
        )
