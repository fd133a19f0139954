"""Finds recipes by id: the built-in ones, and those that other distributions offer.

Importing this module imports no recipe, and so neither numpy nor torch: the command line only wants names.
"""

import difflib
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Final, cast

from npuq.errors import NotFoundError, ToolMissingError

if TYPE_CHECKING:
    from tasks.protocols import Recipe

ENTRY_POINT_GROUP: Final = "npuq.recipes"

#: Recipe id -> module whose `RECIPE` it is. A built-in id wins over a third party's recipe of the same name.
_BUILT_IN: Final[dict[str, str]] = {
    "efficientdet_d0": "tasks.recipes.efficientdet_d0",
    "mobilenet_v1": "tasks.recipes.mobilenet_v1",
    "nas_fpn": "tasks.recipes.nas_fpn",
    "ssd_mobilenetv2": "tasks.recipes.ssd_mobilenetv2",
}


def names() -> tuple[str, ...]:
    """Return the ids of all recipes installed here, sorted."""
    return tuple(sorted(_BUILT_IN.keys() | _third_party().keys()))


def get(recipe_id: str) -> "Recipe":
    """Return a recipe.

    Raises:
        NotFoundError: no recipe has that id; the message names those that exist.
        ToolMissingError: the recipe is known but cannot be imported on this host.
    """
    module = _BUILT_IN.get(recipe_id)
    plugin = _third_party().get(recipe_id)
    if module is None and plugin is None:
        raise NotFoundError(_unknown(recipe_id))
    try:
        recipe = import_module(module).RECIPE if module is not None else cast("EntryPoint", plugin).load()
    except ImportError as error:
        raise ToolMissingError(
            f"The recipe {recipe_id!r} cannot be imported on this host: {error}. "
            "Install what it needs (for the built-in recipes: pip install 'npuq[worker]')."
        ) from error
    return cast("Recipe", recipe)


def _third_party() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _unknown(recipe_id: str) -> str:
    known = names()
    close = difflib.get_close_matches(recipe_id.lower().replace("-", "_"), known, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"There is no recipe {recipe_id!r}.{hint} Known recipes: {', '.join(known)}."
