from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.records import NewJob
from npuq.atc_options import AtcOptions
from npuq.errors import InvalidRequestError, NotFoundError
from npuq.precision import Precision
from npuq.specs import BenchmarkProtocol, ListedImages, RunSpec, Source, SourceKind
from npuq.states import DeviceState, JobKind
from scheduler.plan import PlanWaitsError, plan_run
from tasks import registry
from tasks.protocols import Recipe, TensorSpec
from tests.services.world import DIGEST, SOC, run_spec
from tests.unit.scheduler.snapshots import dataset, device, host_slot

INPUTS = (TensorSpec(name="image", dtype="float32", shape=("N", 3, 224, 224)),)
FLEET = [device("h1.npu0.0"), device("h1.npu1.0"), host_slot()]
GOALS = st.lists(st.sampled_from(list(JobKind)), min_size=1, unique=True).map(tuple)


def recipe(*passes: str, dynamic_batch: bool = True) -> Recipe:
    """Return what planning wants to know of a recipe."""
    known = SimpleNamespace(
        id="mobilenet_v1",
        version=1,
        dataset_format="imagenet",
        passes=passes or ("main",),
        preprocessing_version=1,
        dynamic_batch=dynamic_batch,
        inputs=INPUTS,
    )
    return cast("Recipe", known)


def test_options_of_a_recipe_are_parameters_of_every_job() -> None:
    """Those that differ from the defaults: what is typed as it is anyway leaves every job what it was."""
    spec = run_spec(goals=("evaluate", "benchmark"), batch_sizes=(1,), recipe="pyramidbox", dataset="faces")
    faces = replace(dataset(), format="widerface")
    plain = plan(spec, recipe=registry.get("pyramidbox"), dataset=faces)
    assert not any("recipe_options" in job.params for job in plain)
    same = plan(spec, recipe=registry.get("pyramidbox", {"side": "1000"}), dataset=faces)
    assert [job.params for job in same] == [job.params for job in plain]
    small = plan(spec, recipe=registry.get("pyramidbox", {"side": "128"}), dataset=faces)
    assert [job.params["recipe_options"] for job in small] == [{"side": "128"}] * len(plain)


def source(kind: SourceKind) -> Source:
    """Return an uploaded file."""
    return Source(kind=kind, digest=DIGEST, size_bytes=10, name="file")


def plan(spec: RunSpec, **changes: Any) -> list[NewJob]:
    """Plan on two chips and 200 samples."""
    given_: dict[str, Any] = {"recipe": recipe(), "dataset": dataset(), "devices": FLEET} | changes
    return plan_run(spec, given_["recipe"], given_["dataset"], given_["devices"])


def possible(goals: tuple[JobKind, ...], kind: SourceKind) -> bool:
    """Tell whether a source can be asked for these goals at all."""
    made_of_weights = JobKind.EXPORT in goals and kind is not SourceKind.WEIGHTS
    return not made_of_weights and not (JobKind.CONVERT in goals and kind is SourceKind.OM)


@given(
    goals=GOALS,
    kind=st.sampled_from(list(SourceKind)),
    batch_sizes=st.lists(st.integers(1, 64), min_size=1, max_size=4, unique=True).map(tuple),
    precisions=st.lists(st.sampled_from(list(Precision)), min_size=1, unique=True).map(tuple),
    passes=st.sampled_from([("main",), ("original", "flipped")]),
    dynamic_batch=st.booleans(),
)
def test_every_plan_is_a_graph_that_reaches_its_goals(
    *,
    goals: tuple[JobKind, ...],
    kind: SourceKind,
    batch_sizes: tuple[int, ...],
    precisions: tuple[Precision, ...],
    passes: tuple[str, ...],
    dynamic_batch: bool,
) -> None:
    """Labels and ids are unique, parents come first, every goal is there for every configuration, nothing dangles."""
    if not possible(goals, kind):
        return
    spec = run_spec(goals=goals, source=source(kind), batch_sizes=batch_sizes, precisions=precisions)
    graph = plan(spec, recipe=recipe(*passes, dynamic_batch=dynamic_batch))
    labels = [job.label for job in graph]
    assert len(set(labels)) == len({job.job_id for job in graph}) == len(graph)
    for position, job in enumerate(graph):
        assert {label for needed in job.parents.values() for label in needed} <= set(labels[:position])
        assert bool(job.parents) != bool(job.inputs)  # a job begins with the upload, or with what others made
    for goal in goals:
        made = [job for job in graph if job.kind is goal]
        configurations = {(job.params.get("batch_size"), job.params.get("precision")) for job in made}
        exports = 1 if dynamic_batch else len(batch_sizes)
        assert len(configurations) == (exports if goal is JobKind.EXPORT else len(batch_sizes) * len(precisions))
    needed = {label for job in graph for labels_ in job.parents.values() for label in labels_}
    assert {job.kind for job in graph if job.label not in needed} <= set(goals)


@pytest.mark.parametrize(
    ("kind", "first"),
    [(SourceKind.WEIGHTS, JobKind.EXPORT), (SourceKind.ONNX, JobKind.CONVERT), (SourceKind.OM, JobKind.BENCHMARK)],
)
def test_the_graph_begins_with_what_was_uploaded(kind: SourceKind, first: JobKind) -> None:
    """What the upload stands for is not made again; its digest is the first job's input."""
    graph = plan(run_spec(goals=(JobKind.BENCHMARK,), source=source(kind)))
    assert graph[0].kind is first
    assert graph[0].inputs == {kind.value: (DIGEST,)}


def test_a_sweep_exports_once_and_converts_per_batch_size() -> None:
    """The sizes share the ONNX; each has its own OM, shards and scores."""
    graph = plan(run_spec(batch_sizes=(1, 4, 8)))
    counts = {kind: sum(job.kind is kind for job in graph) for kind in JobKind}
    assert (counts[JobKind.EXPORT], counts[JobKind.CONVERT], counts[JobKind.EVALUATE]) == (1, 3, 3)
    assert [job.params["batch_size"] for job in graph if job.kind is JobKind.CONVERT] == [1, 4, 8]


def test_a_recipe_of_fixed_batch_is_exported_per_batch_size() -> None:
    """Precisions share the ONNX of their batch size; the size is part of its content key."""
    spec = run_spec(batch_sizes=(1, 4), precisions=(Precision.FP16, Precision.MIXED))
    graph = plan(spec, recipe=recipe(dynamic_batch=False))
    exports = [job for job in graph if job.kind is JobKind.EXPORT]
    assert [(job.label, job.params) for job in exports] == [
        ("export bs1", {"batch_size": 1}),
        ("export bs4", {"batch_size": 4}),
    ]
    taken = {(job.params["batch_size"], job.parents["onnx"]) for job in graph if job.kind is JobKind.CONVERT}
    assert taken == {(1, ("export bs1",)), (4, ("export bs4",))}


def test_gears_of_the_batch_need_a_dynamic_export() -> None:
    """An ONNX of one batch size has no axis for them."""
    spec = run_spec(goals=(JobKind.CONVERT,), batch_sizes=(1, 4), atc=AtcOptions(dynamic_batch_size=(1, 4)))
    with pytest.raises(InvalidRequestError, match="one batch size at a time"):
        plan(spec, recipe=recipe(dynamic_batch=False))


@pytest.mark.parametrize("limit", [None, 50, 10_000])
def test_shards_of_each_pass_cover_the_limited_dataset_once(limit: int | None) -> None:
    """Scoring takes the predictions of all shards of all passes, in order."""
    graph = plan(run_spec(limit=limit, goals=(JobKind.EVALUATE,)), recipe=recipe("original", "flipped"))
    samples = 200 if limit is None else min(limit, 200)
    for pass_name in ("original", "flipped"):
        shards = [job.params for job in graph if job.kind is JobKind.INFER and job.params["pass"] == pass_name]
        assert (shards[0]["start"], shards[-1]["stop"]) == (0, samples)
        assert all(before["stop"] == after["start"] for before, after in pairwise(shards))
    scoring = graph[-1]
    assert scoring.parents == {"predictions": tuple(job.label for job in graph if job.kind is JobKind.INFER)}
    assert (scoring.params["samples"], scoring.params["passes"]) == (samples, ["original", "flipped"])


@pytest.mark.parametrize("chips", [1, 2, 8])
def test_shards_of_the_passes_take_turns(chips: int) -> None:
    """However many chips come for work at once, they come for every pass; pinned or not, it is the same work."""
    fleet = [device(f"h1.npu{number}.0", npu_id=number) for number in range(chips)]
    two_passes = recipe("original", "flipped")
    spec = run_spec(goals=(JobKind.EVALUATE,))
    graph = plan(spec, recipe=two_passes, devices=fleet, dataset=dataset(samples=2_000))
    shards = [job for job in graph if job.kind is JobKind.INFER]
    assert [job.params["pass"] for job in shards] == ["original", "flipped"] * (len(shards) // 2)
    assert all(one.params["start"] == two.params["start"] for one, two in zip(shards[::2], shards[1::2], strict=True))
    assert {job.params["pass"] for job in shards[: max(2, chips)]} == {"original", "flipped"}
    pinned = spec.model_copy(update={"pins": {"flipped": "h1.npu0.0"}})
    again = plan(pinned, recipe=two_passes, devices=fleet, dataset=dataset(samples=2_000))
    assert [job.params for job in again] == [job.params for job in graph]
    places = {job.params["pass"]: job.pinned_device for job in again if job.kind is JobKind.INFER}
    assert places == {"original": None, "flipped": "h1.npu0.0"}


def test_a_card_is_measured_by_a_job_for_each_of_its_chips() -> None:
    """Besides the chip's own measurement; the leading one can be reused, the others never are, and none is pinned."""
    fleet = [device(f"h1.npu0.{number}", chip_id=number) for number in range(4)]
    graph = plan(run_spec(goals=(JobKind.BENCHMARK,), scope="card"), devices=[*fleet, host_slot()])
    alone, lead, *others = [job for job in graph if job.kind is JobKind.BENCHMARK]
    assert (alone.lead_id, alone.params.get("scope")) == (None, None)
    assert (lead.lead_id, lead.fresh, lead.params["chips"]) == (lead.job_id, False, 4)
    assert [job.params["companion"] for job in others] == [1, 2, 3]
    assert all((job.lead_id, job.params["lead"], job.fresh) == (lead.job_id, lead.job_id, True) for job in others)
    assert lead.label == "benchmark card bs1 fp16"
    with pytest.raises(PlanWaitsError, match="how many chips it has"):
        plan(run_spec(goals=(JobKind.BENCHMARK,), scope="card"), devices=[])


def test_shards_of_a_list_are_ranges_over_its_images() -> None:
    """The list is an input of all that use it, and of nothing else; its digest makes other work of it."""
    images = ListedImages(digest="1" * 64, count=70)
    graph = plan(run_spec(images=images))
    using = [job for job in graph if job.kind in {JobKind.INFER, JobKind.EVALUATE}]
    assert {job.inputs.get("images") for job in using} == {("1" * 64,)}
    assert all(job.params["images"] == {"digest": "1" * 64, "count": 70} for job in using)
    assert not any("images" in {*job.params, *job.inputs} for job in graph if job not in using)
    shards = [job.params for job in using if job.kind is JobKind.INFER]
    assert (shards[0]["start"], shards[-1]["stop"], using[-1].params["samples"]) == (0, 70, 70)
    assert all(before["stop"] == after["start"] for before, after in pairwise(shards))


def test_a_limit_that_leaves_nothing_out_is_none() -> None:
    """It is the same work as without, and the same result."""
    assert [job.params for job in plan(run_spec(limit=200))] == [job.params for job in plan(run_spec())]
    assert plan(run_spec(limit=199))[-2].params["limit"] == 199


def test_a_list_longer_than_the_dataset_is_refused() -> None:
    """It was made for another one."""
    with pytest.raises(InvalidRequestError, match=r"has 201 images and .* has 200"):
        plan(run_spec(images=ListedImages(digest="1" * 64, count=201)))


def test_only_chip_work_asks_for_a_chip_and_what_is_measured_is_fresh() -> None:
    """Priority and tries go with every job; `--fresh` repeats measurements, not conversions."""
    graph = plan(run_spec(fresh=True, priority=7, max_attempts=2))
    for job in graph:
        on_chip = job.kind in {JobKind.INFER, JobKind.BENCHMARK}
        assert job.soc_version == (SOC if on_chip else None)
        assert job.fresh == (job.kind not in {JobKind.EXPORT, JobKind.CONVERT})
        assert (job.priority, job.max_attempts) == (7, 2)


def test_the_benchmark_protocol_is_passed_on() -> None:
    """What the person asked for is what the job is told."""
    protocol = BenchmarkProtocol(warmup=2, loops=7)
    graph = plan(run_spec(goals=(JobKind.BENCHMARK,), benchmark=protocol))
    assert graph[-1].params.items() >= protocol.model_dump().items()


def test_planning_the_same_run_twice_gives_the_same_jobs() -> None:
    """Two schedulers at once make equal rows."""
    spec = run_spec()
    assert plan(spec) == plan(spec)


def test_the_fleets_only_chip_is_what_is_compiled_for() -> None:
    """Without `--soc` the fleet says which; several kinds must be told apart, none is waited for."""
    spec = run_spec(soc_version=None)
    assert {job.soc_version for job in plan(spec)} == {SOC, None}
    other = device("h1.npu9.0", soc_version="Ascend910B4")
    with pytest.raises(InvalidRequestError, match="Ascend310P3, Ascend910B4: say which with --soc"):
        plan(spec, devices=[*FLEET, other])
    with pytest.raises(PlanWaitsError):
        plan(spec, devices=[host_slot(), device(state=DeviceState.LOST)])
    assert plan(run_spec(soc_version="Ascend910B4"), devices=[])


def test_an_export_needs_no_chip() -> None:
    """Only what is compiled or run has to know for which chip."""
    spec = run_spec(soc_version=None, goals=(JobKind.EXPORT,))
    assert [job.kind for job in plan(spec, devices=[host_slot()])] == [JobKind.EXPORT]
    other = device("h1.npu9.0", soc_version="Ascend910B4")
    assert [job.kind for job in plan(spec, devices=[*FLEET, other])] == [JobKind.EXPORT]


def test_datasets_that_do_not_fit_are_refused_with_advice() -> None:
    """An unregistered name and a foreign format are the submitter's to correct."""
    with pytest.raises(NotFoundError, match="npuq datasets add small PATH --format imagenet"):
        plan(run_spec(), dataset=None)
    with pytest.raises(InvalidRequestError, match="imagenet format, small is in coco format"):
        plan(run_spec(), dataset=dataset(format="coco"))
