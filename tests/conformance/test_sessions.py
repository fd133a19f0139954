"""One suite for every implementation of `InferenceSession`: the CPU reference, and aclruntime in both generations."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from npuq.errors import Blame, NpuqError, ToolMissingError
from tasks.protocols import Array, BoundTensor, InferenceSession
from worker.aclruntime_session import AclRuntime
from worker.onnx_session import OnnxSession

BATCH = 2
ROOT = Path(__file__).parents[2]


def write_model(path: Path) -> None:
    """Write y = relu(x) + 1 over float32 (N, 3, 4, 4)."""
    import onnx
    from onnx import TensorProto, helper

    shape: list[str | int | None] = ["N", 3, 4, 4]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Add", ["r", "one"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8), path)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An emulated host with two chips, and the model converted."""
    home = tmp_path_factory.mktemp("emulator")
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    install = [sys.executable, "-m", "emulator", "install", "--home", str(home), "--cards", "2"]
    subprocess.run(install, check=True, env=environment, stdout=subprocess.DEVNULL)
    write_model(home / "tiny.onnx")
    atc = [str(home / "bin" / "atc"), "--framework=5", "--model=tiny.onnx", "--output=tiny"]
    more = [f"--input_shape=x:{BATCH},3,4,4", "--soc_version=Ascend310P3", "--precision_mode=force_fp32"]
    subprocess.run([*atc, *more], check=True, cwd=home, stdout=subprocess.DEVNULL)
    return home


def use_emulator(home: Path, monkeypatch: pytest.MonkeyPatch, api: str = "2023") -> None:
    """Put the emulated runtime where the real one would be."""
    fleet = home / "fleet.json"
    fleet.write_text(json.dumps(json.loads(fleet.read_text()) | {"api": api, "faults": []}))
    monkeypatch.setenv("NPUQ_EMULATOR_HOME", str(home))
    monkeypatch.syspath_prepend(home / "python")
    monkeypatch.delitem(sys.modules, "aclruntime", raising=False)  # the generation is chosen at its import


@pytest.fixture(params=["onnx", "acl-2022", "acl-2023"])
def session(
    request: pytest.FixtureRequest, emulator: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InferenceSession]:
    """The same model in every implementation."""
    if request.param == "onnx":
        cpu = OnnxSession(emulator / "tiny.onnx", batch_size=BATCH)
        yield cpu
        cpu.close()
        return
    use_emulator(emulator, monkeypatch, request.param.removeprefix("acl-"))
    runtime = AclRuntime(1, lambda: "")
    chip = runtime.open(emulator / "tiny.om")
    yield chip
    chip.close()
    chip.close()
    runtime.finalize()


def batch() -> Array:
    """Return inputs of both signs."""
    return np.random.default_rng(7).normal(size=(BATCH, 3, 4, 4)).astype(np.float32)


def test_names_shapes_and_types_are_the_models(session: InferenceSession) -> None:
    """What is bound is static."""
    ((x,), (y,)) = (session.inputs, session.outputs)
    assert x == BoundTensor(name="x", dtype=np.dtype("float32"), shape=(BATCH, 3, 4, 4))
    assert y == BoundTensor(name="y", dtype=np.dtype("float32"), shape=(BATCH, 3, 4, 4))


def test_outputs_are_what_the_model_computes(session: InferenceSession) -> None:
    """A batch goes in, the function of it comes out, as an array of our own."""
    feed = batch()
    (output,) = session.run([feed])
    np.testing.assert_allclose(output, np.maximum(feed, 0) + 1, rtol=1e-6)
    assert output.dtype == np.float32
    session.run([feed * 0])
    np.testing.assert_allclose(output, np.maximum(feed, 0) + 1, rtol=1e-6)


def test_every_execution_is_timed_and_forgotten_on_request(session: InferenceSession) -> None:
    """One time per execution, repeats included; one copy in and out per batch."""
    session.run([batch()])
    session.reset_times()
    session.run([batch()], loop=3)
    session.run([batch()])
    times = session.times()
    assert len(times.execute_ms) == 4
    assert min(times.execute_ms) > 0
    assert len(times.h2d_ms) == len(times.d2h_ms) == 2
    session.reset_times()
    assert session.times().execute_ms == ()


@pytest.mark.parametrize(
    "feed",
    [
        np.zeros((BATCH + 1, 3, 4, 4), np.float32),
        np.zeros((BATCH, 3, 4, 4), np.float64),
        np.zeros((BATCH, 4, 4, 3), np.float32),
        np.zeros((4, 4, 3, BATCH), np.float32).T,
        np.zeros((BATCH, 3, 4, 8), np.float32)[..., ::2],
    ],
)
def test_what_does_not_fit_is_refused(session: InferenceSession, feed: Array) -> None:
    """Shape, type and layout must be exact: the runtime itself would take the bytes for something else."""
    with pytest.raises(NpuqError) as caught:
        session.run([feed])
    assert (caught.value.info.code, caught.value.info.blame) == ("feed_size", Blame.INPUT)


def test_a_file_that_is_no_model_is_refused(
    emulator: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The runtime's misleading exception is read together with what it printed."""
    use_emulator(emulator, monkeypatch)
    with pytest.raises(NpuqError, match=r"om_load|cannot be loaded") as caught:
        AclRuntime(0, lambda: capfd.readouterr().out).open(emulator / "tiny.onnx")
    assert (caught.value.info.code, caught.value.info.blame) == ("om_load", Blame.INPUT)
    with pytest.raises(NpuqError, match="onnxruntime cannot load"):
        OnnxSession(emulator / "tiny.om")


@pytest.mark.parametrize(
    ("fault", "code", "blame"),
    [
        ("open_failed", "device_open", Blame.DEVICE),
        ("oom", "device_memory", Blame.INPUT),
    ],
)
def test_faults_of_a_chip_are_classified(
    emulator: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    fault: str,
    code: str,
    blame: Blame,
) -> None:
    """Who is to blame is decided from the printed text."""
    use_emulator(emulator, monkeypatch)
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "emulator", "fault", "--home", str(emulator), "0", fault]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    with pytest.raises(NpuqError) as caught:
        AclRuntime(0, lambda: capfd.readouterr().out).open(emulator / "tiny.om")
    assert (caught.value.info.code, caught.value.info.blame) == (code, blame)


def test_a_missing_runtime_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not on PyPI, and a wheel fits one Python version."""
    monkeypatch.setitem(sys.modules, "aclruntime", None)
    with pytest.raises(ToolMissingError, match="not from PyPI"):
        AclRuntime(0, lambda: "")
