"""What a recipe's run takes where a person asks for nothing: the recipe's own wish, or what suits most models."""

from typing import Final

from npuq.precision import Precision
from tasks.protocols import PrefersBatchSizes, PrefersPrecision, Recipe

#: Those of the guides of small models.
SWEPT_BATCH_SIZES: Final = (1, 4, 8, 16, 32, 64)


def precision_of(recipe: Recipe) -> Precision:
    """Return the precision that a model is converted to."""
    return recipe.preferred_precision if isinstance(recipe, PrefersPrecision) else Precision.FP16


def batch_sizes_of(recipe: Recipe) -> tuple[int, ...]:
    """Return the batch sizes that a sweep measures."""
    return tuple(recipe.preferred_batch_sizes) if isinstance(recipe, PrefersBatchSizes) else SWEPT_BATCH_SIZES
