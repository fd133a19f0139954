"""A child that owns an emulated chip: what it keeps, what it does with faults, and how it ends."""

import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pytest

from npuq.errors import Blame, ErrorInfo
from npuq.states import JobKind
from tasks.predictions import read_predictions
from tasks.protocols import ClassScores
from tasks.steps import DatasetRef, DeviceRef, StepOutcome, StepRequest
from tests.services.registered import register_folder
from tests.services.waiting import wait_until
from worker.attempt_log import AttemptLog
from worker.child import Child, ChildConfig, EndResult
from worker.child_protocol import Progress

ROOT = Path(__file__).parents[2]
FAKES = Path(__file__).parent / "child_fakes"
SAMPLES = 40
TIMEOUT = 40.0
DEVICE = DeviceRef(device_id="here-1", npu_id=1, chip_id=0, logic_id=1, soc_version="Ascend310P3", emulated=True)


def write_model(path: Path) -> None:
    """Write class = the first two pixels of image, doubled: float32 (N, 3, 8, 8) to (N, 2)."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Gather", ["flat", "first_two"], ["pixels"], axis=1),
        helper.make_node("Mul", ["pixels", "two"], ["class"]),
    ]
    graph = helper.make_graph(
        nodes,
        "fake_pixels",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("class", TensorProto.FLOAT, ["N", 2])],
        [
            helper.make_tensor("first_two", TensorProto.INT64, [2], [0, 1]),
            helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0]),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8), path)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An emulated host with two chips; the model as `fake_pixels.onnx`."""
    home = tmp_path_factory.mktemp("host")
    emulate(home, "install", "--cards", "2")
    write_model(home / "fake_pixels.onnx")
    return home


def emulate(home: Path, command: str, *arguments: str) -> None:
    """Run one command of the emulator."""
    subprocess.run(
        [sys.executable, "-m", "emulator", command, "--home", str(home), *arguments],
        check=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )


class Bench:
    """One child on the second chip, and attempts for it."""

    def __init__(self, home: Path, folder: Path, *, lock_fd: int | None = None) -> None:
        self.home = home
        self.folder = folder
        self.attempts = 0
        self.under_way = threading.Event()
        self.log = AttemptLog(folder / "attempt.log", 2**20)
        environment = {
            "PATH": f"{home}/bin:{os.environ['PATH']}",
            "PYTHONPATH": f"{home}/python:{FAKES}",
            "ASCEND_TOOLKIT_HOME": str(home / "toolkit"),
            "NPUQ_EMULATOR_HOME": str(home),
        }
        self.config = ChildConfig(
            name="chip-1",
            device=DEVICE,
            lock_fd=lock_fd,
            env=environment,
            feeders=2,
            sample_cache=folder / "cache" / "samples",
            sample_cache_bytes=2**24,
            tool_timeout_seconds=10,
        )
        self.child = Child(self.config)

    def start(self) -> None:
        """Start the child."""
        self.child.start()

    @cached_property
    def dataset(self) -> DatasetRef:
        """Return a dataset whose image i holds the number i, registered at its first use."""
        root = self.folder / "dataset"
        (root / "val").mkdir(parents=True)
        for number in range(SAMPLES):
            (root / "val" / f"image_{number:04d}.JPEG").write_text(str(number))
        (root / "val_label.txt").write_text("".join(f"image_{number:04d}.JPEG 0\n" for number in range(SAMPLES)))
        return register_folder(root, self.folder / "manifest.json", name="numbers")

    def attempt(self, kind: JobKind, inputs: Mapping[str, Path], digest: str = "0", **params: Any) -> StepRequest:
        """Return one more attempt, in a folder of its own."""
        self.attempts += 1
        work = self.folder / f"work-{self.attempts}"
        work.mkdir()
        return StepRequest(
            job_id=f"{self.attempts:032x}",
            attempt=1,
            kind=kind,
            recipe="fake_pixels",
            params=params,
            inputs={role: (path,) for role, path in inputs.items()},
            input_digests=dict.fromkeys(inputs, (digest * 64,)),
            workdir=work,
            dataset=self.dataset if kind is JobKind.INFER else None,
            device=DEVICE if kind in (JobKind.INFER, JobKind.BENCHMARK) else None,
        )

    def run(self, request: StepRequest) -> StepOutcome | ErrorInfo:
        """Run an attempt on the child."""
        return self.child.run(request, self.log, self._note, TIMEOUT)

    def convert(self, batch_size: int) -> Path:
        """Convert the model with ATC, in a host child; returns the OM."""
        host_child = Child(dataclasses.replace(self.config, device=None))
        host_child.start()
        request = self.attempt(
            JobKind.CONVERT,
            {"onnx": self.home / "fake_pixels.onnx"},
            batch_size=batch_size,
            precision="fp32",
            soc_version="Ascend310P3",
        )
        outcome = host_child.run(request, self.log, self._note, TIMEOUT)
        host_child.end(0)
        self.under_way.clear()
        assert isinstance(outcome, StepOutcome), outcome
        return outcome.outputs["om"][0]

    def infer(self, om: Path, batch_size: int, digest: str = "0", **params: Any) -> StepRequest:
        """Return an infer attempt over the whole dataset."""
        ranges = {"start": 0, "stop": SAMPLES, "batch_size": batch_size}
        return self.attempt(JobKind.INFER, {"om": om}, digest, **(ranges | params))

    def close(self) -> None:
        """End the child."""
        self.child.end(0)
        self.log.close()

    def _note(self, _progress: Progress) -> None:
        self.under_way.set()


@pytest.fixture
def bench(host: Path, tmp_path: Path) -> Iterator[Bench]:
    emulate(host, "clear")
    bench = Bench(host, tmp_path)
    bench.start()
    yield bench
    bench.close()


def loads(home: Path) -> int:
    """Return how often a model was loaded, by the emulator's own diary."""
    diary = home / "diary.jsonl"
    events = [json.loads(line)["event"] for line in diary.read_text().splitlines()] if diary.exists() else []
    return events.count("session_open")


def assert_complete(outcome: StepOutcome | ErrorInfo) -> None:
    """Every sample is predicted once, as the network computes it."""
    assert isinstance(outcome, StepOutcome), outcome
    shard = read_predictions(outcome.outputs["predictions"][0])
    found = {name: value.scores.tolist() for name, value in shard.predictions.items() if isinstance(value, ClassScores)}
    assert found == {f"image_{number:04d}": [2.0 * number, float(number)] for number in range(SAMPLES)}


def test_from_onnx_to_predictions_and_figures(bench: Bench) -> None:
    """Convert, infer twice, benchmark; the model is loaded once and stays loaded."""
    om = bench.convert(batch_size=4)
    before = loads(bench.home)
    for _ in range(2):
        assert_complete(bench.run(bench.infer(om, 4)))
    measured = bench.run(bench.attempt(JobKind.BENCHMARK, {"om": om}, batch_size=4, loops=20, warmup=2))
    assert isinstance(measured, StepOutcome), measured
    assert loads(bench.home) == before + 1
    assert bench.child.loaded == ("0" * 64,)
    assert measured.quality == "clean"
    assert measured.metrics["throughput_fps"].value > 0
    assert measured.facts["chip_before"]["health"] == "OK"
    assert measured.facts["chip_before"]["foreign_processes"] == []
    assert "load model" in bench.log.text()


def test_a_full_chip_is_cleared_and_tried_once_more(bench: Bench) -> None:
    """Models of earlier jobs give way; only a model that does not fit alone is the person's trouble."""
    om = bench.convert(batch_size=4)
    assert_complete(bench.run(bench.infer(om, 4, digest="a")))
    emulate(bench.home, "fault", "1", "oom", "--count", "1")
    assert_complete(bench.run(bench.infer(om, 4, digest="b")))
    assert bench.child.loaded == ("b" * 64,)
    assert_complete(bench.run(bench.infer(om, 4, digest="a")))
    emulate(bench.home, "fault", "1", "oom", "--count", "1")
    assert_complete(bench.run(bench.infer(om, 4, digest="b")))
    assert bench.child.loaded == ("b" * 64,), "what an execution lacks is taken from the others, too"
    emulate(bench.home, "fault", "1", "oom")
    error = bench.run(bench.infer(om, 4, digest="c"))
    assert isinstance(error, ErrorInfo)
    assert (error.code, error.blame, error.retry) == ("device_memory", Blame.INPUT, False)
    assert "EL0004" in error.detail


def test_an_error_of_the_chip_retires_the_process(bench: Bench) -> None:
    """After the chip failed, the next attempt gets a fresh process."""
    om = bench.convert(batch_size=4)
    emulate(bench.home, "fault", "1", "open_failed")
    error = bench.run(bench.infer(om, 4))
    assert isinstance(error, ErrorInfo)
    assert (error.code, error.blame) == ("device_open", Blame.DEVICE)
    assert not bench.child.alive


def test_another_image_of_the_same_size_fails_the_job_and_no_other(bench: Bench) -> None:
    """File, dataset, host and remedy are named, nothing is predicted; the same process runs the next job."""
    om = bench.convert(batch_size=4)
    swapped = bench.dataset.root / "val" / "image_0007.JPEG"
    swapped.write_text("8")
    request = bench.infer(om, 4)
    error = bench.run(request)
    assert isinstance(error, ErrorInfo)
    assert (error.code, error.blame, error.retry) == ("dataset_changed", Blame.HOST, False)
    for named in (str(swapped), "'numbers'", "host h1", "npuq datasets add NEW_NAME"):
        assert named in error.message
    assert list(request.workdir.iterdir()) == []
    swapped.write_text("7")
    pid = bench.child.pid
    assert_complete(bench.run(bench.infer(om, 4)))
    assert bench.child.pid == pid


def test_a_lost_feeder_ends_the_attempt_and_retires_the_process(bench: Bench) -> None:
    """A feeder that is killed is noticed, though the chip is well."""
    om = bench.convert(batch_size=4)
    assert_complete(bench.run(bench.infer(om, 4)))
    feeder = psutil.Process(bench.child.pid).children()[0]
    feeder.kill()
    error = bench.run(bench.infer(om, 4))
    assert isinstance(error, ErrorInfo)
    assert (error.code, error.blame) == ("child_lost", Blame.HOST)
    assert not bench.child.alive


def test_a_crash_of_the_runtime_is_the_chips(bench: Bench) -> None:
    """An abort within a chip call is told from a kill."""
    om = bench.convert(batch_size=4)
    emulate(bench.home, "fault", "1", "crash")
    error = bench.run(bench.infer(om, 4))
    assert isinstance(error, ErrorInfo)
    assert (error.code, error.blame) == ("child_lost", Blame.DEVICE)
    assert "SIGABRT" in error.message


def test_a_hanging_chip_can_be_cancelled(bench: Bench) -> None:
    """`end` does not need the cooperation of a process that sits in a chip call."""
    om = bench.convert(batch_size=4)
    assert_complete(bench.run(bench.infer(om, 4)))
    emulate(bench.home, "fault", "1", "hang")
    family = psutil.Process(bench.child.pid).children(recursive=True)
    answers: list[StepOutcome | ErrorInfo] = []
    thread = threading.Thread(target=lambda: answers.append(bench.run(bench.infer(om, 4))))
    thread.start()
    assert bench.child.end(0.5) is EndResult.GONE
    thread.join(TIMEOUT)
    assert isinstance(answers[0], ErrorInfo)
    wait_until(lambda: not any(_lives(process) for process in family), "every process of the chip is gone", TIMEOUT)


def _lives(process: psutil.Process) -> bool:
    """Tell whether a process still does something; one that nobody has buried yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


STRANGER = """
import sys
import aclruntime
session = aclruntime.InferenceSession(sys.argv[1], 1, aclruntime.session_options())
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def stranger(bench: Bench, om: Path) -> Iterator[None]:
    """Have a process that is not npuq's on the same chip."""
    environment = {**bench.config.env, "PYTHONPATH": f"{bench.home}/python:{ROOT}"}
    command = [sys.executable, "-c", STRANGER, str(om)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any(line == "ready\n" for line in process.stdout)
        yield


def test_a_stranger_on_the_chip_is_named_and_waited_for(bench: Bench) -> None:
    """Neither a measurement nor a lack of memory beside somebody else is the person's failure, or the chip's."""
    om = bench.convert(batch_size=4)
    with stranger(bench, om):
        busy = bench.run(bench.attempt(JobKind.BENCHMARK, {"om": om}, batch_size=4, loops=5))
        emulate(bench.home, "fault", "1", "oom")
        full = bench.run(bench.infer(om, 4, digest="f"))
    for error in (busy, full):
        assert isinstance(error, ErrorInfo), error
        assert (error.code, error.blame, error.retry) == ("device_busy", Blame.DEVICE, True)
        assert "pid" in error.message
    assert bench.child.alive
    emulate(bench.home, "clear")
    assert_complete(bench.run(bench.infer(om, 4)))


PARENT = """
import fcntl, os, sys, threading
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_child_device
lock = os.open({lock!r}, os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
bench = test_child_device.Bench(Path({home!r}), Path({folder!r}), lock_fd=lock)
bench.start()
om = Path({om!r})
test_child_device.assert_complete(bench.run(bench.infer(om, 4)))
print(bench.child.pid, flush=True)
while True:
    bench.run(bench.infer(om, 4))
"""


def test_chip_process_and_feeders_die_with_the_worker_and_free_the_lock(bench: Bench, tmp_path: Path) -> None:
    """SIGKILL of a worker in the middle of its work leaves a free chip."""
    om = bench.convert(batch_size=4)
    (tmp_path / "other").mkdir()
    lock = tmp_path / "chip.lock"
    source = PARENT.format(
        tests=str(Path(__file__).parent),
        lock=str(lock),
        home=str(bench.home),
        folder=str(tmp_path / "other"),
        om=str(om),
    )
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", source], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        chip = psutil.Process(int(parent.stdout.readline()))
        family = [chip, *chip.children(recursive=True)]
        with lock.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        parent.send_signal(signal.SIGKILL)
    assert len(family) == 3
    psutil.wait_procs(family, timeout=TIMEOUT)
    with lock.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
