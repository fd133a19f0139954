"""`npuq recipes list`."""

import sys
from typing import Final

from cli.options import Output
from cli.output import Format

EXAMPLES: Final = ("npuq recipes list",)


def command(output: Output = Format.TABLE) -> None:
    """List the models that npuq knows."""
    from cli.output import show_many
    from cli.recipes.view import recipes_view
    from tasks import registry

    if output is Format.NAME:  # a laptop knows the names without numpy
        sys.stdout.write("".join(f"{name}\n" for name in registry.names()))
        return
    show_many([registry.get(name) for name in registry.names()], recipes_view(), output)
