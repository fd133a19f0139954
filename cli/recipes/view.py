"""How recipes look in tables and JSON. Pure."""

from typing import TYPE_CHECKING, Any, Final

from cli.output import Column, View

if TYPE_CHECKING:
    from tasks.protocols import Recipe, TensorSpec


def recipe_document(recipe: "Recipe") -> dict[str, Any]:
    """Return the JSON form of a recipe."""
    return {
        "recipe": recipe.id,
        "version": recipe.version,
        "dataset_format": recipe.dataset_format,
        "passes": list(recipe.passes),
        "inputs": [_tensor(spec) for spec in recipe.inputs],
        "outputs": [_tensor(spec) for spec in recipe.outputs],
        "preprocessing_version": recipe.preprocessing_version,
    }


RECIPE_FIELDS: Final = (
    *("recipe", "version", "dataset_format", "passes", "inputs", "outputs", "preprocessing_version"),
)


def _tensor(spec: "TensorSpec") -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _signature(specs: "tuple[TensorSpec, ...]") -> str:
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
