"""From a submitted run to its graph of jobs. Pure: everything it needs is passed in.

Parameters of each kind (JSON values):

| kind | params |
| --- | --- |
| export | batch_size, of recipes without a dynamic batch axis |
| convert | batch_size (without gears of it), precision, soc_version; where there are any: atc (options of ATC), cann |
| infer | batch_size, precision, dataset, dataset_digest, limit, images, pass, start, stop, preprocessing_version |
| evaluate | batch_size, precision, soc_version, dataset, dataset_digest, limit, images, samples, passes |
| benchmark | batch_size, precision, warmup, loops, max_seconds, require_idle; of a whole card: scope, chips |

A card is measured by as many jobs as it has chips, placed together: one leads and has the result, the others have the
params `companion` (from 1) and `lead` (its job id) besides. `scope` is the word `card`, `chips` how many they are.

Shards of the passes take turns, so that two chips work on two passes at once. Which device a pass is pinned to is no
parameter: where something ran is not what it is, and the shards are the same with and without pins.

`start` and `stop` are positions among the images that are used, in the dataset's own order. `limit` is None where it
leaves nothing out. `images` is there when a list says which are used: its digest and count; the list is an input.

`recipe_options` is there in every kind where options of the recipe differ from its defaults.

A reference (`RunSpec.reference`) has one evaluate job, which takes the ONNX itself: `reference` is true, `precision`
the word `reference`; preprocessing_version is there, and soc_version is not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from db.records import DatasetRecord, DeviceRecord, NewJob
from npuq.atc_options import AtcOptions
from npuq.errors import InvalidRequestError, NotFoundError
from npuq.precision import Precision
from npuq.soc_versions import closest, is_known
from npuq.specs import RunSpec, SourceKind, derived_id
from npuq.states import DeviceKind, DeviceState, JobKind, Scope
from scheduler.cards import chips_of_a_card
from scheduler.pins import pinned_soc_version
from scheduler.shards import shard_ranges
from tasks.atc_request import check_fed, input_shapes, merged, recipe_table
from tasks.protocols import Configurable, PredictsAnySize, Recipe

#: What stands in the history where a conversion has its precision.
REFERENCE: Final = "reference"
_WORKING: Final = frozenset({DeviceState.ONLINE, DeviceState.BUSY})
#: What has to exist before a goal: each kind and the kind whose output it takes.
_NEEDS: Final[Mapping[JobKind, JobKind]] = {
    JobKind.CONVERT: JobKind.EXPORT,
    JobKind.INFER: JobKind.CONVERT,
    JobKind.BENCHMARK: JobKind.CONVERT,
    JobKind.EVALUATE: JobKind.INFER,
}
#: What the source makes unnecessary, and the role it plays for the first job.
_SOURCE_STANDS_FOR: Final[Mapping[SourceKind, tuple[frozenset[JobKind], str]]] = {
    SourceKind.WEIGHTS: (frozenset(), "weights"),
    SourceKind.ONNX: (frozenset({JobKind.EXPORT}), "onnx"),
    SourceKind.OM: (frozenset({JobKind.EXPORT, JobKind.CONVERT}), "om"),
}


class PlanWaitsError(Exception):
    """The run is fine, but the fleet cannot say yet what it needs to be planned; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class _Place:
    """What the fleet gives a plan.

    Attributes:
        soc_version: the chip to compile for; None: for none.
        chips: how many of them share the shards.
        chips_of_card: how many of them a card has.
    """

    soc_version: str | None
    chips: int
    chips_of_card: int = 1


_NOWHERE: Final = _Place(soc_version="", chips=0)  # of a reference, which has no job for a chip


def plan_run(
    spec: RunSpec, recipe: Recipe, dataset: DatasetRecord | None, devices: Sequence[DeviceRecord]
) -> list[NewJob]:
    """Return the jobs of a run in an order in which parents come before children.

    Args:
        spec: what was submitted.
        recipe: the recipe it names, configured as it says.
        dataset: the dataset it names, None when it names none.
        devices: the fleet.

    Raises:
        InvalidRequestError: it can never be planned as it is; the message says what to change.
        NotFoundError: it names a dataset that is not registered, a pass that the recipe has not, or no device.
        PlanWaitsError: no chip is there yet to say what to compile for.
    """
    if spec.dataset is not None and dataset is None:
        raise NotFoundError(
            f"no dataset {spec.dataset!r} is registered; see: npuq datasets list, "
            f"or add it: npuq datasets add {spec.dataset} PATH --format {recipe.dataset_format}"
        )
    if dataset is not None and dataset.format != recipe.dataset_format:
        raise InvalidRequestError(
            f"{recipe.id} is scored on a dataset in {recipe.dataset_format} format, "
            f"{dataset.name} is in {dataset.format} format"
        )
    if spec.images is not None and dataset is not None and spec.images.count > dataset.samples:
        raise InvalidRequestError(
            f"the list has {spec.images.count} images and {dataset.name} has {dataset.samples}: it is another dataset's"
        )
    check_sizes(spec, recipe)
    check_conversions(spec, recipe)
    check_soc_version(spec.soc_version, devices)
    pinned = pinned_soc_version(spec.pins, recipe, devices, spec.soc_version)
    place = _NOWHERE if spec.reference else _find_place(spec, pinned, devices)
    return _Graph(spec=spec, recipe=recipe, dataset=dataset, place=place).build()


def check_sizes(spec: RunSpec, recipe: Recipe) -> None:
    """Refuse a recipe whose inputs have any size where a chip's model would have to have one.

    Raises:
        InvalidRequestError: with what to do instead.
    """
    if isinstance(recipe, PredictsAnySize) and not spec.reference and set(spec.goals) != {JobKind.EXPORT}:
        chosen = ", ".join(f"{name}={value}" for name, value in spec.recipe_options.items())
        raise InvalidRequestError(
            f"{recipe.id} with {chosen} shows its network pictures of any size, and a chip's model has one: score the "
            f"ONNX on a CPU (npuq submit evaluate {recipe.id} --reference), or leave that option out"
        )


def check_conversions(spec: RunSpec, recipe: Recipe) -> None:
    """Refuse a run whose options of ATC, with those of its recipe, cannot be; raises InvalidRequestError."""
    if spec.reference or spec.source.kind is SourceKind.OM:
        return
    recipes = recipe_table(recipe).options
    for precision in spec.precisions:
        options = merged(spec.atc, recipes, precision)
        for batch_size in spec.batch_sizes:
            shapes = input_shapes(recipe.inputs, batch_size, options)
            if spec.runs_models and options.gears is None:
                check_fed(shapes, recipe.inputs, batch_size)
            if options.batch_gears and not recipe.dynamic_batch and spec.source.kind is SourceKind.WEIGHTS:
                raise InvalidRequestError(
                    f"dynamic_batch_size: {recipe.id} is exported for one batch size at a time, as in its guide; "
                    "leave the gears out, or give an ONNX with a dynamic batch axis (--onnx)"
                )
            if spec.runs_models and options.batch_gears and batch_size not in options.batch_gears:
                gears = ", ".join(str(gear) for gear in options.batch_gears)
                raise InvalidRequestError(
                    f"dynamic_batch_size has the gears {gears}, but none for batch size {batch_size}"
                )


def check_soc_version(soc_version: str | None, devices: Sequence[DeviceRecord]) -> None:
    """Refuse a chip that no toolkit is known to compile for and that the fleet does not have.

    Raises:
        InvalidRequestError: with the name that is meant perhaps.
    """
    registered = {device.soc_version for device in devices}
    if soc_version is None or is_known(soc_version) or soc_version in registered:
        return
    meant = closest(soc_version)
    hint = f"did you mean {meant}?" if meant else "it is Ascend and the Name in npu-smi info, for example Ascend310P3"
    raise InvalidRequestError(
        f"--soc {soc_version}: npuq knows no such chip, and none is registered in the fleet; {hint}"
    )


def _find_place(spec: RunSpec, pinned: str | None, devices: Sequence[DeviceRecord]) -> _Place:
    chips = [device for device in devices if device.kind is DeviceKind.NPU and device.state in _WORKING]
    found = sorted({device.soc_version for device in chips if device.soc_version is not None})
    soc = spec.soc_version or pinned
    if soc is None and set(spec.goals) == {JobKind.EXPORT}:
        return _Place(soc_version=None, chips=1)
    if soc is None:
        if not found:
            raise PlanWaitsError("no chip is online, and --soc does not say what to compile for")
        if len(found) > 1:
            raise InvalidRequestError(f"the fleet has {', '.join(found)}: say which with --soc")
        soc = found[0]
    sharing = [device for device in chips if device.soc_version == soc]
    of_card = chips_of_a_card(devices, soc)
    if spec.scope is Scope.CARD and of_card is None:
        raise PlanWaitsError(f"no card with {soc} is registered, and how many chips it has must be known to measure it")
    return _Place(soc_version=soc, chips=max(1, len(sharing)), chips_of_card=of_card or 1)


class _Graph:
    """Collects the jobs of one run."""

    def __init__(self, *, spec: RunSpec, recipe: Recipe, dataset: DatasetRecord | None, place: _Place) -> None:
        self._spec = spec
        self._recipe = recipe
        self._dataset = dataset
        self._place = place
        self._jobs: list[NewJob] = []
        self._labels: set[str] = set()
        self._recipes_options = AtcOptions() if spec.reference else recipe_table(recipe).options
        given, self._source_role = _SOURCE_STANDS_FOR[spec.source.kind]
        self._kinds = _kinds_for(spec.goals) - given

    def build(self) -> list[NewJob]:
        """Return all jobs, one batch size after another, so that the first results come early."""
        if self._spec.goals == (JobKind.EXPORT,):
            for batch_size in self._spec.batch_sizes:
                self._add_export(batch_size)
            return self._jobs
        if self._spec.reference:
            self._add_reference()
            return self._jobs
        for precision in self._spec.precisions:
            for batch_size in self._spec.batch_sizes:
                self._add_configuration(batch_size, precision)
        return self._jobs

    def _add_reference(self) -> None:
        params = {
            "reference": True,
            "batch_size": self._spec.batch_sizes[0],
            "precision": REFERENCE,
            **self._dataset_params(),
            "samples": self._samples,
            "passes": list(self._recipe.passes),
            "preprocessing_version": self._recipe.preprocessing_version,
        }
        onnx = self._add_export(self._spec.batch_sizes[0])
        self._add(JobKind.EVALUATE, "evaluate reference", params, {"onnx": (onnx,)})

    def _add_configuration(self, batch_size: int, precision: Precision) -> None:
        name = f"bs{batch_size} {precision}"
        base: dict[str, Any] = {"batch_size": batch_size, "precision": precision.value}
        model = {"om": (self._add_conversion(batch_size, precision),)}
        if JobKind.INFER in self._kinds:
            shards = self._add_shards(name, base, model)
            if JobKind.EVALUATE in self._kinds:
                scope = {"samples": self._samples, "passes": list(self._recipe.passes)}
                params = base | self._dataset_params() | scope | {"soc_version": self._place.soc_version}
                self._add(JobKind.EVALUATE, f"evaluate {name}", params, {"predictions": tuple(shards)})
        if JobKind.BENCHMARK in self._kinds:
            params = base | self._spec.benchmark.model_dump()
            self._add(JobKind.BENCHMARK, f"benchmark {name}", params, model)
            if self._spec.scope is Scope.CARD:
                self._add_card(f"benchmark card {name}", params, model)

    def _add_card(self, label: str, params: Mapping[str, Any], model: Mapping[str, tuple[str, ...]]) -> None:
        """Add the jobs that measure all chips of a card at once, the leading one first."""
        lead = derived_id(self._spec.run_id, label)
        chips = self._place.chips_of_card
        params = {**params, "scope": Scope.CARD.value, "chips": chips}
        self._add(JobKind.BENCHMARK, label, params, model, lead_id=lead)
        for number in range(1, chips):
            others = {**params, "companion": number, "lead": lead}
            self._add(JobKind.BENCHMARK, f"{label} {number + 1}/{chips}", others, model, lead_id=lead)

    def _add_export(self, batch_size: int) -> str:
        """Add the export for a batch size unless it is there, once for all where the axis is dynamic; its label."""
        label = "export" if self._recipe.dynamic_batch else f"export bs{batch_size}"
        if JobKind.EXPORT in self._kinds and label not in self._labels:
            self._add(JobKind.EXPORT, label, {} if self._recipe.dynamic_batch else {"batch_size": batch_size})
        return label

    def _add_conversion(self, batch_size: int, precision: Precision) -> str:
        """Add the conversion for a configuration unless it is there; return its label.

        A model with gears of the batch size is made once and serves all batch sizes of the run.
        """
        options = merged(self._spec.atc, self._recipes_options, precision)
        gears = ",".join(str(gear) for gear in options.batch_gears)
        label = f"convert gears {gears} {precision}" if gears else f"convert bs{batch_size} {precision}"
        if JobKind.CONVERT not in self._kinds or label in self._labels:
            return label
        params: dict[str, Any] = {} if gears else {"batch_size": batch_size}
        params |= {"precision": precision.value, "soc_version": self._place.soc_version}
        if options != AtcOptions():  # nothing where nothing is asked, so that earlier conversions count
            params["atc"] = options.to_json()
        if self._spec.cann is not None:
            params["cann"] = self._spec.cann
        self._add(JobKind.CONVERT, label, params, {"onnx": (self._add_export(batch_size),)}, self._spec.atc.files)
        return label

    def _add_shards(self, name: str, base: Mapping[str, Any], model: Mapping[str, tuple[str, ...]]) -> list[str]:
        labels: list[str] = []
        passes = self._recipe.passes
        chips_per_pass = -(-self._place.chips // len(passes))
        ranges = shard_ranges(self._samples, batch_size=base["batch_size"], chips=chips_per_pass)
        for number, (start, stop) in enumerate(ranges, start=1):
            for pass_name in passes:
                of_pass = name if len(passes) == 1 else f"{name} {pass_name}"
                label = f"infer {of_pass} {number}/{len(ranges)}"
                params = {
                    **base,
                    **self._dataset_params(),
                    "pass": pass_name,
                    "start": start,
                    "stop": stop,
                    "preprocessing_version": self._recipe.preprocessing_version,
                }
                self._add(JobKind.INFER, label, params, model, pinned_device=self._spec.pins.get(pass_name))
                labels.append(label)
        return labels

    @property
    def _samples(self) -> int:
        if self._spec.images is not None:
            return self._spec.images.count
        samples = 0 if self._dataset is None else self._dataset.samples
        return samples if self._spec.limit is None else min(samples, self._spec.limit)

    def _dataset_params(self) -> dict[str, Any]:
        dataset, spec = self._dataset, self._spec
        if dataset is None:
            raise InvalidRequestError(f"{self._recipe.id}: say which dataset with --dataset")
        limit = None if spec.limit is None or spec.limit >= dataset.samples else spec.limit
        params: dict[str, Any] = {"dataset": dataset.name, "dataset_digest": dataset.digest, "limit": limit}
        if spec.images is not None:  # absent where nothing is asked, so that earlier work counts
            params["images"] = spec.images.model_dump()
        return params

    def _add(
        self,
        kind: JobKind,
        label: str,
        params: Mapping[str, Any],
        parents: Mapping[str, tuple[str, ...]] | None = None,
        files: Mapping[str, str] | None = None,
        *,
        pinned_device: str | None = None,
        lead_id: str | None = None,
    ) -> None:
        # The role that the upload plays is filled by it, not by a job.
        produced = {role: labels for role, labels in (parents or {}).items() if role != self._source_role}
        inputs = {role: (digest,) for role, digest in (files or {}).items()}
        if self._spec.images is not None and "images" in params:
            inputs["images"] = (self._spec.images.digest,)
        self._labels.add(label)
        chosen = self._recipe.chosen if isinstance(self._recipe, Configurable) else {}
        if chosen:  # nothing where nothing is chosen, so that earlier work counts
            params = {**params, "recipe_options": dict(chosen)}
        takes_upload = kind is JobKind.EXPORT or self._source_role in (parents or {})
        job_id = derived_id(self._spec.run_id, label)
        accompanies = lead_id not in {None, job_id}  # is there for a single measurement, and never reused for another
        self._jobs.append(
            NewJob(
                job_id=job_id,
                label=label,
                kind=kind,
                recipe=self._recipe.id,
                recipe_version=self._recipe.version,
                params=params,
                inputs=inputs | ({self._source_role: (self._spec.source.digest,)} if takes_upload else {}),
                parents=produced,
                soc_version=self._place.soc_version if kind in {JobKind.INFER, JobKind.BENCHMARK} else None,
                pinned_device=pinned_device,
                lead_id=lead_id,
                fresh=accompanies or (self._spec.fresh and kind not in {JobKind.EXPORT, JobKind.CONVERT}),
                priority=self._spec.priority,
                max_attempts=self._spec.max_attempts,
            )
        )


def _kinds_for(goals: Sequence[JobKind]) -> frozenset[JobKind]:
    """Return the goals and everything that leads to them."""
    kinds = set(goals)
    todo = list(goals)
    while todo:
        needed = _NEEDS.get(todo.pop())
        if needed is not None and needed not in kinds:
            kinds.add(needed)
            todo.append(needed)
    return frozenset(kinds)
