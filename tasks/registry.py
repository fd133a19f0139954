"""Finds recipes by id: the built-in ones, and those that other distributions offer.

Importing this module imports no recipe, and so neither numpy nor torch: the command line only wants names.
"""

import difflib
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Final, cast

from npuq.errors import InvalidRequestError, NotFoundError, ToolMissingError

if TYPE_CHECKING:
    from tasks.protocols import Recipe

ENTRY_POINT_GROUP: Final = "npuq.recipes"

#: Recipe id -> module whose `RECIPE` it is. A built-in id wins over a third party's recipe of the same name.
_BUILT_IN: Final[dict[str, str]] = {
    "efficientdet_d0": "tasks.recipes.efficientdet_d0",
    "mobilenet_v1": "tasks.recipes.mobilenet_v1",
    "nas_fpn": "tasks.recipes.nas_fpn",
    "pyramidbox": "tasks.recipes.pyramidbox",
    "ssd_mobilenetv2": "tasks.recipes.ssd_mobilenetv2",
}


def names() -> tuple[str, ...]:
    """Return the ids of all recipes installed here, sorted."""
    return tuple(sorted(_BUILT_IN.keys() | _third_party().keys()))


def get(recipe_id: str, options: Mapping[str, str] | None = None) -> "Recipe":
    """Return a recipe, with options chosen or as it is by default.

    Raises:
        NotFoundError: no recipe has that id; the message names those that exist.
        ToolMissingError: the recipe is known but cannot be imported on this host.
        InvalidRequestError: it has no such option, or not with such a value.
    """
    recipe = _load(recipe_id)
    return _configured(recipe, options) if options else recipe


def _load(recipe_id: str) -> "Recipe":
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


def _configured(recipe: "Recipe", options: Mapping[str, str]) -> "Recipe":
    from tasks.protocols import Configurable

    known = [option.name for option in recipe.options] if isinstance(recipe, Configurable) else []
    unknown = [name for name in options if name not in known]
    if unknown or not isinstance(recipe, Configurable):
        close = difflib.get_close_matches(unknown[0].lower().replace("-", "_"), known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise InvalidRequestError(
            f"The recipe {recipe.id!r} has no option {unknown[0]!r}.{hint} Its options: {', '.join(known) or 'none'}."
        )
    return recipe.configured(options)


def _third_party() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _unknown(recipe_id: str) -> str:
    known = names()
    close = difflib.get_close_matches(recipe_id.lower().replace("-", "_"), known, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"There is no recipe {recipe_id!r}.{hint} Known recipes: {', '.join(known)}."
