"""The published figures that results are held against, and how far a result may fall behind.

The figures are data (`recipes/references.toml`), never code; this module only reads and checks them.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from npuq.errors import InvalidRequestError
from npuq.precision import Precision
from tasks.metrics import METRICS
from tasks.protocols import PublishesReferences, Recipe

#: Dataset, as sources name it -> how many images it has: a result over another number is of something else.
PUBLISHED_IMAGES: Final[Mapping[str, int]] = {
    "ImageNet val": 50_000,
    "COCO val2017": 5_000,
    "VOC2007 test": 4_952,
    "WIDER FACE val": 3_226,
}
REFERENCES_FILE: Final = Path(__file__).parent / "recipes" / "references.toml"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Reference(_Strict):
    """One published number.

    Attributes:
        recipe: recipe id.
        chip: soc version (`Ascend310P3`) or GPU; None: the framework the model was trained in.
        scope: whether the number is one chip's or a whole card's; an Ascend310 card has four chips.
        precision: of the OM that gave the number; None where there was none, or the source does not tell.
        batch_size: None where the source gives one number for all.
        dataset: as the source names it.
        metric: a name of `tasks.metrics`.
        unit: of the value; that metric's.
        value: as published.
        source: where it was published.
        superseded: why another number stands for this one: not the source's last word, or of other weights than the
            guide's. Such a number is shown, never compared with.
    """

    recipe: str
    chip: str | None = None
    scope: Literal["chip", "card"] | None = None
    precision: Precision | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    dataset: str
    metric: str
    unit: str
    value: float
    source: str
    superseded: str | None = None

    @model_validator(mode="after")
    def _unit_is_the_metrics(self) -> Self:
        definition = METRICS.get(self.metric)
        if definition is None:
            raise ValueError(f"unknown metric {self.metric!r}")
        if self.unit != definition.unit:
            raise ValueError(f"{self.metric} is measured in {definition.unit}, not in {self.unit}")
        if (self.scope is None) != (self.chip is None):
            raise ValueError("chip and scope go together")
        return self


class Tolerance(_Strict):
    """How far a metric of a recipe may fall behind its reference.

    Attributes:
        recipe: recipe id.
        metrics: names of `tasks.metrics`.
        compared: whether each metric is held against its own reference, or the mean of all against the mean of theirs.
        max_relative_drop: largest allowed fall, relative to the reference; 0.01 is the guides' "within 1 %".
        source: where the rule comes from.
    """

    recipe: str
    metrics: tuple[str, ...] = Field(min_length=1)
    compared: Literal["each", "mean"] = "each"
    max_relative_drop: float = Field(gt=0, lt=1)
    source: str

    @model_validator(mode="after")
    def _metrics_exist(self) -> Self:
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown:
            raise ValueError(f"unknown metric {unknown[0]!r}")
        return self

    def allows(self, value: float, reference: float) -> bool:
        """Tell whether a value is good enough; better than the reference always is."""
        return value >= reference * (1 - self.max_relative_drop)

    def passes(self, values: Mapping[str, float], references: Mapping[str, float]) -> bool:
        """Tell whether all metrics of the rule are good enough.

        Args:
            values: metric name -> what was measured; others than the rule's are ignored.
            references: metric name -> what was published, likewise.

        Raises:
            KeyError: a metric of the rule is missing in one of them.
        """
        pairs = [(values[name], references[name]) for name in self.metrics]
        if self.compared == "mean":
            measured, published = zip(*pairs, strict=True)
            return self.allows(fmean(measured), fmean(published))
        return all(self.allows(value, reference) for value, reference in pairs)


class References(_Strict):
    """All published figures and rules."""

    reference: tuple[Reference, ...]
    tolerance: tuple[Tolerance, ...] = ()

    @model_validator(mode="after")
    def _one_number_each(self) -> Self:
        keys = Counter(
            (item.recipe, item.chip, item.scope, item.precision, item.batch_size, item.metric)
            for item in self.reference
            if item.superseded is None
        )
        doubled = [key for key, count in keys.items() if count > 1]
        if doubled:
            raise ValueError(f"two numbers for {doubled[0]}; mark one as superseded")
        return self

    def of(self, recipe: str, *, metric: str | None = None) -> tuple[Reference, ...]:
        """Return the figures of a recipe that may be compared with, all metrics or one, in the file's order."""
        return tuple(
            item
            for item in self.reference
            if item.recipe == recipe and metric in (None, item.metric) and item.superseded is None
        )

    def tolerance_of(self, recipe: str, metric: str) -> Tolerance | None:
        """Return the rule for a metric of a recipe, if there is one."""
        return next((rule for rule in self.tolerance if rule.recipe == recipe and metric in rule.metrics), None)


@cache
def load() -> References:
    """Return the figures that npuq ships; raises ValueError when the file is not well-formed."""
    return _read(REFERENCES_FILE)


def of_recipe(recipe: Recipe) -> References:
    """Return the figures and rules of one recipe: of its own file where it brings one, else of npuq's.

    Raises:
        InvalidRequestError: its own file is wrong: a mistake of the recipe's author.
    """
    if not isinstance(recipe, PublishesReferences):
        shipped = load()
        return References(
            reference=tuple(item for item in shipped.reference if item.recipe == recipe.id),
            tolerance=tuple(rule for rule in shipped.tolerance if rule.recipe == recipe.id),
        )
    path = recipe.references_file
    try:
        own = _read(path)
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"{path} holds no published figures as npuq reads them: {error}") from error
    others = {item.recipe for item in own.reference} | {rule.recipe for rule in own.tolerance}
    others.discard(recipe.id)
    if others:
        raise InvalidRequestError(
            f"{path} speaks of {', '.join(sorted(others))}; {recipe.id} brings it, for itself only"
        )
    return own


def _read(path: Path) -> References:
    with path.open("rb") as stream:
        return References.model_validate(tomllib.load(stream))
