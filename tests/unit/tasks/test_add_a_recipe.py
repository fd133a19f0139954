"""The distribution that `docs/add-a-recipe.md` writes is built, installed beside npuq, planned and evaluated."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import torch
from PIL import Image

from npuq.entry import INSTALLATION
from npuq.states import JobKind
from tasks import datasets, evaluate, export, reference, registry
from tasks.protocols import ClassScores, Prediction, Recipe
from tasks.steps import DatasetRef, StepRequest
from tests.unit.tasks.test_registry import PLANNING
from worker.host_process import HostContext

GUIDE: Final = INSTALLATION / "docs" / "add-a-recipe.md"
#: A fenced block whose first line names the file that it is.
FILE: Final = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
RECIPE_ID: Final = "squeezenet1_1"

pytestmark = pytest.mark.timeout(300)


def run_python(*arguments: str, site: Path, cwd: Path = INSTALLATION) -> subprocess.CompletedProcess[str]:
    """Run Python as one does who has npuq and the distribution installed."""
    paths = os.pathsep.join([str(site), str(INSTALLATION)])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the distribution, written from the guide."""
    root = tmp_path_factory.mktemp("npuq-squeezenet")
    for name, text in FILE.findall(GUIDE.read_text(encoding="utf-8")):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def site(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder into which pip installed it: no network, and nothing else is touched."""
    target = tmp_path_factory.mktemp("site")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--no-cache-dir"]
    done = run_python("-m", "pip", "install", *offline, "--target", str(target), str(sources), site=target)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def recipe(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recipe]:
    """Return the recipe as npuq finds it, in this process."""
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    yield registry.get(RECIPE_ID)
    for name in [name for name in sys.modules if name.partition(".")[0] == "npuq_squeezenet"]:
        del sys.modules[name]


def picture(seed: int) -> bytes:
    content = BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((300, 260), Image.Resampling.NEAREST).save(content, "JPEG")
    return content.getvalue()


def request(kind: JobKind, workdir: Path, role: str, file: Path, dataset: DatasetRef | None = None) -> StepRequest:
    params = {"reference": True, "batch_size": 2} if kind is JobKind.EVALUATE else {}
    return StepRequest(
        job_id="0" * 32,
        attempt=1,
        kind=kind,
        recipe=RECIPE_ID,
        params=params,
        inputs={role: (file,)},
        input_digests={role: ("0" * 64,)},
        workdir=workdir,
        dataset=dataset,
    )


def test_guide_names_every_file_that_it_lists(sources: Path) -> None:
    """What the tree at the top promises is what the blocks write."""
    tree = GUIDE.read_text(encoding="utf-8").split("```")[1]
    listed = {line.split()[0] for line in tree.splitlines()[2:]}
    assert listed == {path.relative_to(sources).as_posix() for path in sources.rglob("*") if path.is_file()}


def test_recipe_is_known_where_its_distribution_is_installed(site: Path) -> None:
    """The command line lists and shows it beside npuq's own; without the distribution nobody knows it."""
    listed = run_python("-m", "npuq", "recipes", "list", "-o", "name", site=site)
    assert RECIPE_ID in listed.stdout.splitlines(), listed.stderr
    shown = run_python("-m", "npuq", "recipes", "show", RECIPE_ID, "-o", "json", site=site)
    assert f'"recipe": "{RECIPE_ID}"' in shown.stdout, shown.stderr
    assert RECIPE_ID not in registry.names()


def test_recipe_is_planned_without_the_libraries_of_a_worker(site: Path) -> None:
    """On a laptop and by the scheduler, like the built-in ones."""
    done = run_python("-c", PLANNING, site=site)
    assert done.returncode == 0, done.stderr
    kinds = "['benchmark', 'convert', 'evaluate', 'export', 'infer']"
    assert f"{RECIPE_ID} {kinds}" in done.stdout.splitlines()


def test_its_own_tests_pass(sources: Path, site: Path) -> None:
    """As its author runs them."""
    done = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", site=site, cwd=sources)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_reference_on_the_cpu_scores_what_the_network_predicts(
    recipe: Recipe,
    imagenet_folder: Callable[..., Path],
    registered: Callable[[Path], DatasetRef],
    tmp_path: Path,
) -> None:
    """From a checkpoint through export and onnxruntime to Top-1, the last batch not full."""
    torch.manual_seed(3)
    network = recipe.network()
    torch.save(network.state_dict(), tmp_path / "squeezenet1_1-b8a52dc0.pth")
    images = {f"ILSVRC2012_val_0000000{number}.JPEG": picture(number) for number in range(5)}
    ref = registered(imagenet_folder(images, "".join(f"{name} {number}\n" for number, name in enumerate(images))))
    workdir = tmp_path / "work"
    workdir.mkdir()

    exported = export.run(
        _context(request(JobKind.EXPORT, workdir, "weights", tmp_path / "squeezenet1_1-b8a52dc0.pth"))
    )
    (onnx,) = exported.outputs["onnx"]
    job = request(JobKind.EVALUATE, workdir, "onnx", onnx, ref)
    outcome = evaluate.run(_context(job))

    dataset = datasets.open_dataset(ref)
    expected: dict[str, Prediction] = {}
    with torch.inference_mode():
        for image_id in dataset.image_ids:
            batch = torch.from_numpy(recipe.preprocess(dataset.image_path(image_id)).array[None])
            expected[image_id] = ClassScores(scores=network(batch).numpy()[0])
    predicted = reference.predict(_context(job), recipe, dataset, recipe.passes)
    for image_id, of_passes in predicted.items():
        ours, wanted = recipe.merge(of_passes), expected[image_id]
        assert isinstance(ours, ClassScores)
        assert isinstance(wanted, ClassScores)
        np.testing.assert_allclose(ours.scores, wanted.scores, rtol=0, atol=1e-5)
    values = {name: metric.value for name, metric in outcome.metrics.items()}
    assert values == recipe.evaluate(expected, dataset)
    assert outcome.facts["samples"] == 5


def _context(of: StepRequest) -> HostContext:
    return HostContext(of, lambda *_progress: None)
