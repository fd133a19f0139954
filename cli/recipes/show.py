"""`npuq recipes show`."""

from typing import Annotated, Final

import typer

from cli.options import Output
from cli.output import Format

EXAMPLES: Final = ("npuq recipes show mobilenet_v1",)


def command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="The recipe's id; see: npuq recipes list")],
    output: Output = Format.TABLE,
) -> None:
    """Show one recipe: what goes into its network and what comes out."""
    from cli.output import show_one
    from cli.recipes.view import recipes_view
    from tasks import registry

    show_one(registry.get(recipe), recipes_view(), output)
