"""`npuq recipes show`."""

from dataclasses import replace
from typing import Annotated, Final

import typer

from cli.options import Output
from cli.output import Format

EXAMPLES: Final = ("npuq recipes show mobilenet_v1",)


def command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="The recipe's id; see: npuq recipes list")],
    output: Output = Format.TABLE,
) -> None:
    """Show one recipe: inputs and outputs, its options, what it asks of ATC, and the figures published for it."""
    from cli.output import show_one
    from cli.recipes.view import RECIPE_DETAIL_FIELDS, recipe_detail_document, recipes_view
    from tasks import references, registry
    from tasks.atc_request import recipe_table

    found = registry.get(recipe)
    published, table = references.of_recipe(found), recipe_table(found)
    atc = table.options.to_json() | {option: file.name for option, file in table.files.items()}
    view = replace(
        recipes_view(),
        document=lambda record: recipe_detail_document(record, published, atc),
        fields=RECIPE_DETAIL_FIELDS,
    )
    show_one(found, view, output)
