"""Passes pinned to devices: what is refused, and what a job that is pinned waits for."""

from types import SimpleNamespace
from typing import cast

import pytest

from npuq.errors import InvalidRequestError, NotFoundError, NpuqError
from npuq.states import DeviceState
from scheduler.pins import pinned_soc_version, why_pin_waits
from scheduler.placement import place
from tasks.protocols import Recipe
from tests.unit.scheduler.snapshots import attempt, device, host_slot, job

RECIPE = cast("Recipe", SimpleNamespace(id="two", passes=("original", "flipped")))
FLEET = [device("h1.npu0.0"), device("h1.npu1.0"), device("h1.npu9.0", soc_version="Ascend910B4"), host_slot()]


@pytest.mark.parametrize(
    ("pins", "soc", "kind", "said"),
    [
        ({"fliped": "h1.npu0.0"}, None, NotFoundError, "did you mean 'flipped'\\? It has original, flipped"),
        ({"flipped": "h1.npu7.0"}, None, NotFoundError, "no device is 'h1.npu7.0'"),
        ({"flipped": "h1.host.0"}, None, InvalidRequestError, "is no chip"),
        ({"flipped": "h1.npu0.0"}, "Ascend910B4", InvalidRequestError, "this run is for Ascend910B4"),
        ({"original": "h1.npu0.0", "flipped": "h1.npu9.0"}, None, InvalidRequestError, "another pass is pinned to an"),
    ],
)
def test_a_pin_that_cannot_be_kept_is_refused(
    pins: dict[str, str], soc: str | None, kind: type[NpuqError], said: str
) -> None:
    """The sentence names the pass."""
    with pytest.raises(kind, match=said):
        pinned_soc_version(pins, RECIPE, FLEET, soc)


def test_pins_say_what_to_compile_for() -> None:
    """Two passes may share a device; nothing pinned says nothing."""
    assert pinned_soc_version(dict.fromkeys(RECIPE.passes, "h1.npu9.0"), RECIPE, FLEET, None) == "Ascend910B4"
    assert pinned_soc_version({}, RECIPE, FLEET, None) is None


def test_a_pinned_job_waits_for_its_device_and_takes_no_other() -> None:
    """Though others are free, and though it failed there before."""
    pinned = job("pinned", pinned_device="h1.npu0.0", avoid_devices=("h1.npu0.0",))
    assert place([pinned], FLEET, [attempt("a", "h1.npu0.0")], models={}, estimates={}) == []
    (placed,) = place([pinned], FLEET, [], models={}, estimates={})
    assert placed.device_id == "h1.npu0.0"
    sick = [device("h1.npu0.0", state=DeviceState.QUARANTINED, state_reason="Alarm"), FLEET[1]]
    assert place([pinned], sick, [], models={}, estimates={}) == []
    assert why_pin_waits("h1.npu0.0", sick) == (
        "it is pinned to h1.npu0.0, which is quarantined (Alarm); it waits for that device and runs nowhere else"
    )
