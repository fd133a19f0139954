"""The published `ais_bench` packages, unmodified, on the emulated runtime.

They are not part of this repository. `NPUQ_AIS_BENCH_OLD` (Ascend/tools, `ais-bench_workload/tool/ais_bench`, 2023) and
`NPUQ_AIS_BENCH_NEW` (msit, `ait/components/benchmark`, 2024) name the folders that hold `ais_bench/`, and after a colon
any folder with what it imports: tqdm, and a setuptools that still has pkg_resources (below 81). Without them the tests
are skipped; `test_acl_calls.py` makes the same calls everywhere. Beside the newer one lie samples of its API.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from emulator.om import GearKind
from tasks.protocols import Array
from tests.services.oms import write_om

ROOT: Final = Path(__file__).parents[2]
#: Looked up when this file is read: tests run without settings of the person who runs them.
PACKAGES: Final = {"old": os.environ.get("NPUQ_AIS_BENCH_OLD"), "new": os.environ.get("NPUQ_AIS_BENCH_NEW")}
APIS: Final = {"old": "2022", "new": "2023"}
THROUGHPUT: Final = re.compile(r"throughput 1000\*batchsize\.mean\(([\d.]+)\)/NPU_compute_time\.mean\([\d.]+\): [\d.]+")
SUMMARY_KEYS: Final = {
    *("filesinfo", "args", "NPU_compute_time", "H2D_latency", "D2H_latency"),
    *("npu_compute_time_list", "throughput", "pid"),
}
TIME_KEYS: Final = {"min", "max", "mean", "median", "percentile(99%)", "count"}
SAMPLES: Final = 5


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One of the packages, in a folder with models and inputs, on two emulated chips."""

    generation: str
    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str, exit_code: int = 0) -> str:
        """Run `python -m ais_bench` and return what it printed; its exit code must be as expected."""
        return self._python("-m", "ais_bench", *arguments, exit_code=exit_code)

    def script(self, text: str) -> str:
        """Run a script that uses the package's Python API."""
        return self._python("-c", text, exit_code=0)

    def summary(self, name: str) -> Any:
        """Return a summary that was written below `out`."""
        return json.loads((self.folder / "out" / f"{name}_summary.json").read_text())

    def _python(self, *arguments: str, exit_code: int) -> str:
        done = subprocess.run(
            [sys.executable, "-P", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == exit_code, done.stdout
        return done.stdout


@pytest.fixture(scope="module", params=PACKAGES)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Each of the packages with the runtime of its time."""
    package = PACKAGES[request.param]
    if package is None:
        pytest.skip(f"NPUQ_AIS_BENCH_{request.param.upper()} does not name the published package")
    # The packages refuse folders that a group may write to, and names with brackets.
    folder = tmp_path_factory.mktemp(f"ais_bench_{request.param}")
    home = folder / "npus"
    install = [sys.executable, "-m", "emulator", "install", "--home", str(home), "--cards", "2"]
    subprocess.run(install, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    fleet = home / "fleet.json"
    fleet.write_text(json.dumps(json.loads(fleet.read_text()) | {"api": APIS[request.param]}))
    _write_models(folder)
    _write_inputs(folder)
    paths = os.pathsep.join([package, str(home / "python"), str(ROOT)])
    path = os.pathsep.join([str(home / "bin"), os.environ["PATH"]])
    return Bench(
        generation=request.param,
        folder=folder,
        environment={"PYTHONPATH": paths, "PATH": path, "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def _write_models(folder: Path) -> None:
    write_om(folder / "static.om")
    write_om(folder / "sum.om", names=("a", "b"))
    batches = [((n,), (n, 3, 4, 4)) for n in (1, 2, 4)]
    write_om(folder / "batch.om", shape=(-1, 3, 4, 4), kind=GearKind.BATCH, gears=batches)
    sizes = [((4, 4), (1, 3, 4, 4)), ((6, 8), (1, 3, 6, 8))]
    write_om(folder / "hw.om", shape=(1, 3, -1, -1), kind=GearKind.IMAGE_SIZE, gears=sizes)
    dims = [((1, 4), (1, 3, 4, 4)), ((1, 5), (1, 3, 5, 4)), ((2, 6), (2, 3, 6, 4))]
    write_om(folder / "dims.om", shape=(-1, 3, -1, 4), kind=GearKind.DIMS, gears=dims)
    write_om(folder / "shape.om", shape=(-1, 3, -1, -1))
    for path in folder.glob("*.om"):
        path.chmod(0o640)


def _write_inputs(folder: Path) -> None:
    """Write `samples` (one image each), `batches` (two images each) and `ragged` (of growing height)."""
    for name in ("samples", "batches", "ragged", "out"):
        (folder / name).mkdir(mode=0o750)
    for index in range(SAMPLES):
        (folder / "samples" / f"s{index}.bin").write_bytes(sample(index).tobytes())
    for index in range(2):
        np.save(folder / "batches" / f"b{index}.npy", np.stack([sample(2 * index), sample(2 * index + 1)]))
        np.save(folder / "ragged" / f"r{index}.npy", np.full((1, 3, 4 + index, 4), index, np.float32))
    for path in folder.glob("*/*"):
        if path.is_file():
            path.chmod(0o640)


def sample(index: int) -> Array:
    """Return the image number `index`."""
    return np.random.default_rng(index).standard_normal((3, 4, 4)).astype(np.float32)


def expected(image: Array) -> Array:
    """Return what the models make of it."""
    return np.maximum(image, 0) + 1


def names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def read(path: Path) -> Array:
    """Return what is in an output file of any format."""
    readers: dict[str, Callable[[Path], Array]] = {".npy": np.load, ".txt": np.loadtxt}
    return readers.get(path.suffix, partial(np.fromfile, dtype=np.float32))(path)


def test_pure_inference(bench: Bench) -> None:
    """Made-up data, so many executions, one figure; the batch size is the model's."""
    printed = bench.run("--model", "static.om", "--loop", "5")
    assert "loop inference exec: (5/5)" in printed
    found = THROUGHPUT.search(printed)
    assert found is not None
    assert float(found.group(1)) == 2
    for line in ("[INFO] acl init success", "[INFO] load model static.om success", "[INFO] warm up 1 done"):
        assert line in printed


def test_pure_inference_with_outputs(bench: Bench) -> None:
    """Outputs of zeros, and the summary with every key; warm-up is not counted."""
    bench.run("--model", "static.om", "--loop", "4", "--output", "out", "--output_dirname", "pure")
    assert names(bench.folder / "out" / "pure") == ["pure_infer_data_0.bin"]
    assert set(np.fromfile(bench.folder / "out" / "pure" / "pure_infer_data_0.bin", np.float32)) == {1.0}
    summary = bench.summary("pure")
    assert set(summary) == SUMMARY_KEYS
    for key in ("NPU_compute_time", "H2D_latency", "D2H_latency"):
        assert set(summary[key]) == TIME_KEYS
    assert (summary["NPU_compute_time"]["count"], len(summary["npu_compute_time_list"])) == (4, 4)
    assert (summary["H2D_latency"]["count"], summary["D2H_latency"]["count"]) == (1, 1)
    mean = summary["NPU_compute_time"]["mean"]
    assert summary["throughput"] == pytest.approx(1000 * 2 / mean)


@pytest.mark.parametrize("run_mode", ["array", "files", "tensor", "full"])
@pytest.mark.parametrize("out_format", ["BIN", "NPY", "TXT"])
def test_a_folder_is_batched_and_padded(bench: Bench, out_format: str, run_mode: str) -> None:
    """Five images through a model for two: three executions, five results, however they are fed and written."""
    name = f"{run_mode}_{out_format}"
    common = ("--model", "static.om", "--input", "samples", "--output", "out", "--output_dirname", name)
    bench.run(*common, "--outfmt", out_format, "--run_mode", run_mode)
    folder = bench.folder / "out" / name
    ending = out_format.lower()
    assert names(folder) == [f"s{index}_0.{ending}" for index in range(SAMPLES)]
    for index in range(SAMPLES):
        path = folder / f"s{index}_0.{ending}"
        np.testing.assert_allclose(read(path).reshape(3, 4, 4), expected(sample(index)), atol=1e-6)
    summary = bench.summary(name)
    assert summary["NPU_compute_time"]["count"] == 3
    infiles = [each["infiles"] for each in summary["filesinfo"].values()]
    assert infiles == [[f"samples/s{index}.bin"] for index in range(SAMPLES)]


def test_several_inputs_come_from_several_folders(bench: Bench) -> None:
    """In the model's order; the first names the results."""
    bench.run("--model", "sum.om", "--input", "batches,batches", "--output", "out", "--output_dirname", "sum")
    assert names(bench.folder / "out" / "sum") == ["b0_0.bin", "b1_0.bin"]
    found = np.fromfile(bench.folder / "out" / "sum" / "b0_0.bin", np.float32).reshape(2, 3, 4, 4)
    np.testing.assert_allclose(found, expected(2 * np.stack([sample(0), sample(1)])), rtol=1e-6)


def test_inputs_are_divided_over_two_devices(bench: Bench) -> None:
    """A process each; the first gets what is left over, in both ways of counting."""
    divide = ("--divide_input", "1") if bench.generation == "new" else ()
    common = ("--model", "static.om", "--input", "samples", "--output", "out", "--output_dirname", "split")
    printed = bench.run(*common, "--device", "0,1", *divide)
    assert "multidevice run end qsize:4 result:0" in printed
    assert "summary throughput:" in printed
    folders = ("device0_0", "device1_1") if bench.generation == "new" else ("device0", "device1")
    found = [names(bench.folder / "out" / "split" / folder) for folder in folders]
    assert found == [["s0_0.bin", "s1_0.bin", "s2_0.bin"], ["s3_0.bin", "s4_0.bin"]]
    assert bench.summary(f"split/{folders[1]}")["NPU_compute_time"]["count"] == 1


def test_two_devices_measure_side_by_side(bench: Bench) -> None:
    """Pure inference, also twice on one device."""
    for devices in ("0,1", "0,0"):
        printed = bench.run("--model", "static.om", "--device", devices, "--loop", "2")
        assert "multidevice run end qsize:4 result:0" in printed


@pytest.mark.parametrize(
    ("arguments", "batch"),
    [
        (("--model", "batch.om", "--dymBatch", "4"), 4),
        (("--model", "hw.om", "--dymHW", "6,8"), 1),
        (("--model", "dims.om", "--dymDims", "x:2,3,6,4"), 2),
        (("--model", "shape.om", "--dymShape", "x:3,3,5,7", "--outputSize", "10000"), 3),
    ],
)
def test_dynamic_models_bind(bench: Bench, arguments: tuple[str, ...], batch: int) -> None:
    """Every way to make a model dynamic."""
    found = THROUGHPUT.search(bench.run(*arguments, "--loop", "2"))
    assert found is not None
    assert float(found.group(1)) == batch


def test_a_dynamic_batch_is_filled_from_a_folder(bench: Bench) -> None:
    """As many files at a time as the gear has images."""
    common = ("--input", "samples", "--output", "out", "--output_dirname", "gear")
    bench.run("--model", "batch.om", "--dymBatch", "4", *common)
    assert len(names(bench.folder / "out" / "gear")) == SAMPLES
    found = np.fromfile(bench.folder / "out" / "gear" / "s4_0.bin", np.float32).reshape(3, 4, 4)
    np.testing.assert_allclose(found, expected(sample(4)), rtol=1e-6)
    assert bench.summary("gear")["NPU_compute_time"]["count"] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--model", "shape.om", "--auto_set_dymshape_mode", "1", "--outputSize", "10000"),
        ("--model", "dims.om", "--auto_set_dymdims_mode", "1"),
    ],
)
def test_shapes_are_taken_from_the_files(bench: Bench, arguments: tuple[str, ...]) -> None:
    """Each npy file says its own."""
    common = ("--input", "ragged", "--output", "out", "--output_dirname", arguments[2].strip("-"), "--outfmt", "NPY")
    bench.run(*arguments, *common)
    folder = bench.folder / "out" / arguments[2].strip("-")
    assert [np.load(folder / f"r{index}_0.npy").shape for index in range(2)] == [(1, 3, 4, 4), (1, 3, 5, 4)]


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (("--model", "batch.om", "--dymBatch", "3"), "model has dynamic batch size:{[1][2][4]}"),
        (("--model", "batch.om", "--dymBatch", "3"), "RuntimeError: [1][ACL: invalid parameter] \n"),
        (("--model", "static.om", "--dymBatch", "2"), "dynamic_batch_size parameter is not specified for model"),
        (("--model", "hw.om", "--dymHW", "8,6"), "[ERROR] the dymHW parameter is not correct"),
        (("--model", "dims.om", "--dymDims", "x:2,3,9,4"), "RuntimeError: [-1][ACL: general failure] \n"),
        (("--model", "shape.om", "--dymShape", "x:1,3,4,4"), "[3011][Infer: find outputsize is zero"),
        (("--model", "static.om", "--device", "7"), "RuntimeError: [107001][Error code unknown] \n"),
        (("--model", "sum.om", "--input", "samples"), "input dir num:1 not equal to model inputs num:2"),
    ],
)
def test_failures_are_told_as_on_a_card(bench: Bench, arguments: tuple[str, ...], printed: str) -> None:
    """A traceback and exit code 1; the reason is in the runtime's own lines."""
    assert printed in bench.run(*arguments, exit_code=1)


def test_wrong_usage(bench: Bench) -> None:
    """Of argparse."""
    bench.run("--loop", "5", exit_code=2)


def test_the_python_api_infers(bench: Bench) -> None:
    """Arrays and device tensors in, arrays out."""
    printed = bench.script(
        "import numpy as np, aclruntime\n"
        "from ais_bench.infer.interface import InferSession\n"
        "x = np.linspace(-1, 1, 96, dtype='f').reshape(2, 3, 4, 4)\n"
        "session = InferSession(1, 'static.om')\n"
        "tensor = session.create_tensor_from_arrays_to_device(x)\n"
        "for feed in (x, tensor):\n"
        "    (y,) = session.infer([feed])\n"
        "    assert np.allclose(y, np.maximum(x, 0) + 1) and y.shape == x.shape\n"
        "dims = InferSession(0, 'dims.om')\n"
        "(y,) = dims.infer([np.zeros((2, 3, 6, 4), 'f')], mode='dymdims')\n"
        "assert y.shape == (2, 3, 6, 4)\n"
        "shape = InferSession(0, 'shape.om')\n"
        "(y,) = shape.infer([np.zeros((1, 3, 5, 5), 'f')], mode='dymshape', custom_sizes=10000)\n"
        "assert y.shape == (1, 3, 5, 5)\n"
        "print('done')\n"
    )
    assert "done" in printed.splitlines()


@pytest.fixture
def newer(bench: Bench) -> Bench:
    """The package that has a pipeline."""
    if bench.generation == "old":
        pytest.skip("the older package has none of it")
    return bench


@pytest.mark.parametrize(("out_format", "threads"), [("BIN", "1"), ("NPY", "2")])
def test_the_pipeline_gives_the_same_results(newer: Bench, out_format: str, threads: str) -> None:
    """Without batching: a file has to fill the model; with threads, only mean and count are told."""
    name = f"pipeline{threads}"
    common = ("--model", "static.om", "--input", "batches", "--output", "out", "--output_dirname", name)
    newer.run(*common, "--outfmt", out_format, "--pipeline", "1", "--threads", threads)
    folder = newer.folder / "out" / name
    assert names(folder) == [f"b{index}_0.{out_format.lower()}" for index in range(2)]
    found = read(folder / f"b1_0.{out_format.lower()}").reshape(2, 3, 4, 4)
    np.testing.assert_allclose(found, expected(np.stack([sample(2), sample(3)])), rtol=1e-6)
    summary = newer.summary(name)
    assert set(summary["NPU_compute_time"]) == (TIME_KEYS if threads == "1" else {"mean", "count"})
    assert summary["NPU_compute_time"]["count"] == 2


def test_the_pipeline_makes_up_data_and_takes_shapes_from_files(newer: Bench) -> None:
    """Pure inference in it, and automatic shapes."""
    newer.run("--model", "static.om", "--pipeline", "1", "--pure_data_type", "random", "--loop", "3")
    auto = ("--auto_set_dymshape_mode", "1", "--outputSize", "10000", "--pipeline", "1", "--outfmt", "NPY")
    newer.run("--model", "shape.om", "--input", "ragged", "--output", "out", "--output_dirname", "auto", *auto)
    assert np.load(newer.folder / "out" / "auto" / "r1_0.npy").shape == (1, 3, 5, 4)


def test_every_device_runs_all_inputs_unless_they_are_divided(newer: Bench) -> None:
    """As the newer package decides."""
    common = ("--model", "static.om", "--input", "samples", "--output", "out", "--output_dirname", "whole")
    newer.run(*common, "--device", "0,1")
    for folder in ("device0_0", "device1_1"):
        assert len(names(newer.folder / "out" / "whole" / folder)) == SAMPLES


def test_energy_is_asked_of_npu_smi(newer: Bench) -> None:
    """The emulated one answers."""
    printed = newer.run("--model", "static.om", "--loop", "2", "--energy_consumption", "1", "--npu_id", "0")
    assert "NPU ID:0 energy consumption(J):" in printed


def test_a_range_of_shapes_is_tried_one_by_one(newer: Bench) -> None:
    """A process each, and a table at the end."""
    printed = newer.run("--model", "shape.om", "--dymShape_range", "x:1,3,4~5,4", "--outputSize", "10000")
    assert "run_count:2 success_count:2" in printed


def test_the_python_api_of_the_newer_package(newer: Bench) -> None:
    """Gears from the feeds, pipelines over memory, iterations that feed outputs back, and several devices."""
    printed = newer.script(
        "import numpy as np\n"
        "from ais_bench.infer.interface import InferSession, MultiDeviceSession\n"
        "x = np.linspace(-1, 1, 96, dtype='f').reshape(2, 3, 4, 4)\n"
        "y = np.maximum(x, 0) + 1\n"
        "batch = InferSession(0, 'batch.om')\n"
        "assert np.allclose(batch.infer([x], mode='dymbatch')[0], y)\n"
        "assert np.allclose(batch.infer_pipeline([[x], [x]], mode='dymbatch')[1][0], y)\n"
        "size = InferSession(0, 'hw.om')\n"
        "assert size.infer([np.zeros((1, 3, 6, 8), 'f')], mode='dymhw')[0].shape == (1, 3, 6, 8)\n"
        "dims = InferSession(0, 'dims.om')\n"
        "feeds = [[np.zeros((2, 3, 6, 4), 'f')], [np.zeros((1, 3, 5, 4), 'f')]]\n"
        "assert [o[0].shape[0] for o in dims.infer_pipeline(feeds, mode='dymdims')] == [2, 1]\n"
        "both = InferSession(0, 'sum.om')\n"
        "(z,) = both.infer_iteration([x * 0, x * 0 + 1], [0, -1], iteration_times=3)\n"
        "assert (z == 6).all(), z\n"
        "assert len(both.summary().exec_time_list) == 3\n"
        "for each in (batch, size, dims, both): each.free_resource()\n"
        "InferSession.finalize()\n"
        "outputs = MultiDeviceSession('static.om').infer({0: [[x]], 1: [[x], [x]]})\n"
        "assert {device: len(found) for device, found in outputs.items()} == {0: 1, 1: 2}\n"
        "print('done')\n"
    )
    assert "done" in printed.splitlines()


@pytest.mark.timeout(300)
def test_the_samples_of_the_newer_package(newer: Bench) -> None:
    """Its script converts a model in every way to make one dynamic, its programs feed them in every way."""
    published = Path((PACKAGES["new"] or "").split(os.pathsep)[0]) / "api_samples"
    if not published.is_dir():
        pytest.skip(f"no samples in {published}")
    samples = Path(shutil.copytree(published, newer.folder / "api_samples"))
    # The script asks CANN's own module for the chip's name.
    (newer.folder / "acl.py").write_text("def get_soc_name():\n    return 'Ascend310P3'\n")
    paths = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(newer.folder)}
    environment = newer.environment | {
        name: os.pathsep.join([path, newer.environment[name]]) for name, path in paths.items()
    }

    def run(*command: str, folder: Path) -> None:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run("bash", "get_sample_datas.sh", folder=samples)
    for path in (samples / "sampledata").rglob("*.om"):
        path.chmod(0o640)
    programs = sorted(samples.glob("interface_api_usage/api_infer*/*.py"))
    assert programs
    for program in [*programs, *samples.glob("interface_api_usage/multidevice_api/*.py")]:
        run(sys.executable, "-P", program.name, folder=program.parent)
