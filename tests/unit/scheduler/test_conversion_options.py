"""How options of ATC and versions of CANN travel from a specification to the job, the toolchain and the device."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from db.records import DeviceRecord, JobRecord, NewJob
from npuq.errors import InvalidRequestError
from npuq.specs import RunSpec
from npuq.states import DeviceKind, DeviceState, JobKind, JobState
from scheduler.placement import can_run
from scheduler.plan import plan_run
from scheduler.toolchains import Toolchains
from tasks import registry

DIGEST = "a" * 64
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def spec(**changes: Any) -> RunSpec:
    """Return a submitted conversion."""
    return RunSpec.model_validate(
        {
            "run_id": "01890a5d-ac96-7aaa-8aaa-aaaaaaaaaaaa",
            "name": "a run",
            "submitted_at": NOW,
            "submitter": "somebody",
            "goals": ["convert"],
            "recipe": "mobilenet_v1",
            "source": {"kind": "onnx", "digest": "b" * 64, "size_bytes": 1, "name": "m.onnx"},
            "soc_version": "Ascend310P3",
            **changes,
        }
    )


def conversions(**changes: Any) -> list[NewJob]:
    """Return the planned jobs of a conversion."""
    return plan_run(spec(**changes), registry.get("mobilenet_v1"), None, [])


def slot(toolchain: str) -> DeviceRecord:
    """Return a host slot."""
    return DeviceRecord(
        device_id="h.host.0",
        host="h",
        kind=DeviceKind.HOST,
        identity="h/slot/0",
        npu_id=None,
        chip_id=None,
        logic_id=None,
        name="host slot",
        soc_version=None,
        toolchain=toolchain,
        emulated=False,
        health="OK",
        state=DeviceState.ONLINE,
        state_reason="",
        state_at=NOW,
        memory_total_mib=None,
        memory_baseline_mib=None,
        loaded=(),
        restart_asked_at=None,
        seen_at=NOW,
    )


def job(toolchain: str | None = None, **params: Any) -> JobRecord:
    """Return a conversion as it stands in the database."""
    return JobRecord(
        job_id="0" * 32,
        run_id="r",
        ordinal=0,
        label="convert bs1 fp16",
        kind=JobKind.CONVERT,
        recipe="mobilenet_v1",
        recipe_version=1,
        params=params,
        inputs={},
        soc_version=None,
        toolchain=toolchain,
        content_key=None,
        fresh=False,
        priority=0,
        state=JobState.QUEUED,
        attempt=0,
        max_attempts=3,
        failures=0,
        losses=0,
        not_before=None,
        avoid_devices=(),
        refused_hosts=(),
        cancel_requested=False,
        device_id=None,
        reason="",
        outputs={},
        facts={},
        reused_from=None,
        error=None,
        created_at=NOW,
        queued_at=None,
        started_at=None,
        finished_at=None,
    )


def test_options_are_parameters_and_their_files_inputs() -> None:
    """Both are part of the content key, and the worker brings the files with the model."""
    (convert,) = conversions(precisions=["mixed"], atc={"modify_mixlist": DIGEST, "log": "info"}, cann="8.0.RC2")
    assert convert.params["atc"] == {"modify_mixlist": DIGEST, "log": "info"}
    assert convert.params["cann"] == "8.0.RC2"
    assert convert.inputs == {"onnx": ("b" * 64,), "modify_mixlist": (DIGEST,)}


def test_without_options_nothing_changes() -> None:
    """Conversions from before there were options keep their content keys."""
    (convert,) = conversions()
    assert convert.params == {"batch_size": 1, "precision": "fp16", "soc_version": "Ascend310P3"}
    assert convert.inputs == {"onnx": ("b" * 64,)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"atc": {"precision_mode": "force_fp32"}}, "the run asks for fp16"),
        ({"atc": {"modify_mixlist": DIGEST}}, "mixed precision only"),
        ({"atc": {"wrong": 1}}, "Extra inputs"),
        ({"atc": {"dynamic_image_size": "9,9;8,8"}, "batch_sizes": [1, 2]}, "ask for one batch size"),
        ({"atc": {"dynamic_dims": "1;2"}, "goals": ["benchmark"]}, "goes with convert only"),
        (
            {"atc": {"dynamic_batch_size": "1,2", "input_shape": "image:-1,3,9,9"}, "goals": ["benchmark"]},
            "goes with convert only",
        ),
        ({"atc": {"insert_op_conf": DIGEST}, "goals": ["convert", "benchmark"]}, "goes with convert only"),
        ({"cann": "../8"}, "cann"),
        (
            {
                "cann": "8.0",
                "goals": ["benchmark"],
                "source": {"kind": "om", "digest": "b" * 64, "size_bytes": 1, "name": "m.om"},
            },
            "an OM already",
        ),
    ],
)
def test_a_specification_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    """Before it is sent, and again where it arrives."""
    with pytest.raises(ValidationError, match=words):
        spec(**changes)


def test_one_model_with_gears_serves_every_batch_size() -> None:
    """It is converted once; each batch size is measured with it."""
    jobs = conversions(goals=["benchmark"], batch_sizes=[1, 4, 8], atc={"dynamic_batch_size": "1,4,8,16"})
    (convert,) = [job for job in jobs if job.kind is JobKind.CONVERT]
    assert convert.label == "convert gears 1,4,8,16 fp16"
    assert "batch_size" not in convert.params
    measured = [job for job in jobs if job.kind is JobKind.BENCHMARK]
    assert [job.params["batch_size"] for job in measured] == [1, 4, 8]
    assert {job.parents["om"] for job in measured} == {(convert.label,)}


def test_a_batch_size_without_a_gear_is_refused_by_the_plan() -> None:
    """The chip would refuse it only after the conversion."""
    with pytest.raises(InvalidRequestError, match=r"the gears 1, 4, but none for batch size 8"):
        conversions(goals=["benchmark"], batch_sizes=[1, 8], atc={"dynamic_batch_size": "1,4"})


def test_gears_that_do_not_fit_the_recipe_are_refused_by_the_plan() -> None:
    """Only the recipe knows the inputs; nothing is queued."""
    with pytest.raises(InvalidRequestError, match="input_shape has 0 times -1"):
        conversions(atc={"dynamic_dims": [[1], [2]]})


@pytest.mark.parametrize(
    ("shape", "words"),
    [("1~8,3,224,224", "sizes of image open"), ("2,3,224,224", "for batch size 2, the run asks for 1")],
)
def test_shapes_that_cannot_be_fed_are_refused_by_the_plan(shape: str, words: str) -> None:
    """They can be converted, and nothing more."""
    atc = {"input_shape": f"image:{shape}"}
    assert conversions(atc=atc)
    with pytest.raises(InvalidRequestError, match=words):
        conversions(goals=["benchmark"], atc=atc)


def test_a_chip_that_nobody_knows_is_refused_by_the_plan() -> None:
    """Unless it is registered: the next generation is not in any list."""
    unknown = "Ascend310p3"
    with pytest.raises(InvalidRequestError, match=r"npuq knows no such chip.*did you mean Ascend310P3\?"):
        conversions(soc_version=unknown)
    with pytest.raises(InvalidRequestError, match="the Name in npu-smi info"):
        conversions(soc_version="Ascend9999")
    chip = replace(slot(""), kind=DeviceKind.NPU, state=DeviceState.LOST, soc_version=unknown)
    (convert,) = plan_run(spec(soc_version=unknown), registry.get("mobilenet_v1"), None, [chip])
    assert convert.params["soc_version"] == unknown


def test_a_version_is_found_among_those_side_by_side() -> None:
    """Without a wish the newest default converts; a wish waits for a host that has it, and says so."""
    toolchains = Toolchains(newest="cann-8.0", known=frozenset({"cann-8.0", "cann-7.0"}))
    assert toolchains.choose({})[0] == "cann-8.0"
    assert toolchains.choose({"cann": "7.0"})[0] == "cann-7.0"
    assert toolchains.choose({"cann": "9.0"}) == (None, "no host with CANN 9.0 is online")
    assert Toolchains().choose({}) == (None, "no host with ATC is online")


def test_a_slot_serves_every_toolchain_it_has() -> None:
    """The default is one of them."""
    assert slot("cann-8.0 cann-7.0").toolchains == ("cann-8.0", "cann-7.0")
    assert can_run(slot("cann-8.0 cann-7.0"), job("cann-7.0"))
    assert not can_run(slot("cann-8.0"), job("cann-7.0"))
