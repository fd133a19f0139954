"""How recipes look in tables and JSON. Pure."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from cli.output import Column, View

if TYPE_CHECKING:
    from tasks.protocols import Recipe, TensorSpec
    from tasks.references import References


def recipe_document(recipe: "Recipe") -> dict[str, Any]:
    """Return the JSON form of a recipe."""
    return {
        "recipe": recipe.id,
        "version": recipe.version,
        "dataset_format": recipe.dataset_format,
        "passes": list(recipe.passes),
        "dynamic_batch": recipe.dynamic_batch,
        "inputs": [_tensor(spec) for spec in recipe.inputs],
        "outputs": [_tensor(spec) for spec in recipe.outputs],
        "preprocessing_version": recipe.preprocessing_version,
    }


def recipe_detail_document(recipe: "Recipe", published: "References", atc: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON form of a recipe with its options, what it asks of ATC, and the published figures and rules."""
    from tasks import preferences
    from tasks.protocols import Configurable

    options = [asdict(option) for option in recipe.options] if isinstance(recipe, Configurable) else []
    tolerances = [rule.model_dump(mode="json", exclude={"recipe"}) for rule in published.tolerance]
    references = [figure.model_dump(mode="json", exclude={"recipe"}) for figure in published.reference]
    own = {
        "options": options,
        "precision": preferences.precision_of(recipe).value,
        "batch_sizes": list(preferences.batch_sizes_of(recipe)),
        "atc": dict(atc),
    }
    return recipe_document(recipe) | own | {"tolerances": tolerances, "references": references}


RECIPE_FIELDS: Final = (
    *("recipe", "version", "dataset_format", "passes", "dynamic_batch", "inputs", "outputs", "preprocessing_version"),
)
RECIPE_DETAIL_FIELDS: Final = (
    *(*RECIPE_FIELDS, "options", "precision", "batch_sizes", "atc", "tolerances", "references"),
)
#: A table names no more outputs than this; `recipes show` has all.
_NAMED: Final = 2


def _tensor(spec: "TensorSpec") -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _signature(specs: "tuple[TensorSpec, ...]") -> str:
    if len(specs) > _NAMED:
        return f"{len(specs)}: {specs[0].name} to {specs[-1].name}"
    return ", ".join(f"{spec.name} ({' x '.join(str(axis) for axis in spec.shape)})" for spec in specs)


def recipes_view() -> "View[Recipe]":
    """Return the view of recipes."""
    return View(
        columns=(
            Column(header="RECIPE", text=lambda recipe: recipe.id),
            Column(header="VERSION", text=lambda recipe: str(recipe.version), right=True),
            Column(header="DATASET FORMAT", text=lambda recipe: recipe.dataset_format),
            Column(header="INPUTS", text=lambda recipe: _signature(recipe.inputs)),
            Column(header="OUTPUTS", text=lambda recipe: _signature(recipe.outputs)),
        ),
        document=recipe_document,
        fields=RECIPE_FIELDS,
        name=lambda recipe: recipe.id,
        empty="no recipes are installed",
    )
