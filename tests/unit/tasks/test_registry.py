"""Recipes are found by id, without importing what they need."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from npuq.entry import INSTALLATION
from npuq.errors import NotFoundError, ToolMissingError
from tasks import registry


def test_built_in_recipe_is_found_by_its_id() -> None:
    """The registry's name and the recipe's own id are the same."""
    assert {name: registry.get(name).id for name in registry.names()} == {name: name for name in registry.names()}
    assert "mobilenet_v1" in registry.names()


@pytest.mark.parametrize("written", ["mobilenet-v1", "MobileNetV1", "mobilnet_v1"])
def test_unknown_recipe_is_answered_with_the_nearest_name(written: str) -> None:
    """A typing error costs one look at the message."""
    with pytest.raises(NotFoundError, match="Did you mean 'mobilenet_v1'") as caught:
        registry.get(written)
    assert f"Known recipes: {', '.join(registry.names())}." in caught.value.info.message


def test_far_off_name_gets_no_suggestion() -> None:
    """A wrong guess would only mislead."""
    with pytest.raises(NotFoundError) as caught:
        registry.get("zzz")
    assert "Did you mean" not in caught.value.info.message


def offer(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Install a third party's recipe."""
    point = EntryPoint(name=name, value=value, group=registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])


def test_third_party_recipe_is_found_through_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe of another distribution is listed and loaded like our own."""
    offer(monkeypatch, "their_model", "tasks.recipes.mobilenet_v1:RECIPE")
    assert "their_model" in registry.names()
    assert registry.get("their_model") is registry.get("mobilenet_v1")


def test_built_in_recipe_wins_over_a_third_partys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installing a distribution never changes what a built-in id means."""
    offer(monkeypatch, "mobilenet_v1", "no.such.module:RECIPE")
    assert registry.get("mobilenet_v1").id == "mobilenet_v1"


def test_recipe_that_cannot_be_imported_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing dependency is this host's trouble, not the request's."""
    offer(monkeypatch, "their_model", "no_such_distribution.recipe:RECIPE")
    with pytest.raises(ToolMissingError, match="no_such_distribution"):
        registry.get("their_model")


#: Plans a sweep of every built-in recipe where none of a worker's libraries can be imported.
PLANNING = """
import sys
from datetime import UTC, datetime

sys.modules.update(dict.fromkeys(("numpy", "torch", "onnx", "onnxruntime", "PIL", "cv2", "scipy", "pycocotools")))
from db.records import DatasetRecord
from npuq.client import new_run_id
from npuq.specs import RunSpec
from scheduler.plan import plan_run
from tasks import registry

now = datetime.now(UTC)
for name in registry.names():
    recipe = registry.get(name)
    dataset = DatasetRecord(
        name="d", format=recipe.dataset_format, root="/nowhere", digest="d" * 64, samples=64, added_at=now
    )
    spec = RunSpec(
        run_id=new_run_id(), name="n", submitted_at=now, submitter="me", goals=("evaluate", "benchmark"), recipe=name,
        source={"kind": "weights", "digest": "a" * 64, "size_bytes": 1, "name": "w"}, dataset="d",
        soc_version="Ascend310P3",
    )
    jobs = plan_run(spec, recipe, dataset, [])
    print(name, sorted({job.kind.value for job in jobs}))
"""


def test_planning_needs_no_library_of_a_worker() -> None:
    """A laptop and the scheduler plan every built-in recipe without numpy and torch, and without the dataset."""
    done = subprocess.run(
        [sys.executable, "-c", PLANNING], cwd=INSTALLATION, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kinds = "['benchmark', 'convert', 'evaluate', 'export', 'infer']"
    assert done.stdout.splitlines() == [f"{name} {kinds}" for name in registry.names()]
