"""An installed emulator home, and small models for it."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from emulator import acl_device, atc
from emulator.home import ENVIRONMENT_VARIABLE, Home
from emulator.install import FleetPlan, install


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """Two 310P3 cards; this process is in a folder of its own and knows the home."""
    gc.collect()  # sessions that a traceback of an earlier test kept alive unload now, not in this test's output
    gc.freeze()  # the next test's search need not go through everything again
    installed = install(tmp_path / "npus", FleetPlan(cards=2))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(installed.root))
    monkeypatch.delenv("ASCEND_RT_VISIBLE_DEVICES", raising=False)
    acl_device.reset_devices(acl_device.LogLevel.ERROR)
    yield installed
    acl_device.reset_devices(acl_device.LogLevel.ERROR)


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """One convolution: `image` float32 (N, 3, 8, 8) -> `features` float32 (N, 4, 6, 6), opset 11."""
    return write_onnx(tmp_path / "conv.onnx")


def write_onnx(path: Path, *, opset: int = 11, batch: int | str = "N") -> Path:
    """Write the convolution; a weight of 0.1 tells whether it went through float16."""
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    weights[0, 0, 0, 0] = 0.1
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weights"], ["features"], name="conv")],
        "conv",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 4, 6, 6])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


@pytest.fixture
def compiled(home: Home, onnx_file: Path) -> Callable[..., Path]:
    """Return a function that compiles the convolution: `compiled(batch=2, soc="Ascend310P3", precision=...)`."""
    del home  # asked for its environment

    def compile_model(batch: int = 2, soc: str = "Ascend310P3", precision: str = "force_fp32", name: str = "m") -> Path:
        arguments = atc_arguments(onnx_file, f"{name}_bs{batch}", batch=batch, soc=soc)
        assert atc.main([*arguments, f"--precision_mode={precision}"]) == 0
        return Path.cwd() / f"{name}_bs{batch}.om"

    return compile_model


def atc_arguments(model: Path, output: str, *, batch: int = 2, soc: str = "Ascend310P3") -> list[str]:
    """Return a command line as the guides write it."""
    return [
        "--framework=5",
        f"--model={model}",
        f"--output={output}",
        "--input_format=NCHW",
        f"--input_shape=image:{batch},3,8,8",
        "--log=error",
        f"--soc_version={soc}",
    ]


@pytest.fixture
def atc_command() -> Callable[..., list[str]]:
    """Return `atc_arguments`, for tests that change some of it."""
    return atc_arguments


@pytest.fixture
def make_onnx() -> Callable[..., Path]:
    """Return `write_onnx`."""
    return write_onnx


@pytest.fixture
def plain_environment() -> dict[str, str]:
    """Return an environment in which nothing points at the emulator, and much points elsewhere."""
    keep: dict[str, Any] = {name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ}
    return {**keep, "PYTHONPATH": "/nowhere"}
