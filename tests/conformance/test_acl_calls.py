"""The calls that `ais_bench` makes of `aclruntime`, in both generations, made by a program of our own.

It runs everywhere; `test_ais_bench.py` runs the published packages where they are.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from emulator.om import GearKind
from tests.services.oms import write_om

ROOT: Final = Path(__file__).parents[2]

#: What both packages do with one model: describe, bind, feed by pointer and by tensor, time, reset, let go.
COMMON: Final = """
import sys
from importlib.metadata import version
import numpy as np
import aclruntime

assert version("aclruntime") == "0.0.2"
model, generation = sys.argv[1:]
options = aclruntime.session_options()
options.log_level, options.loop = 2, 3
session = aclruntime.InferenceSession(model, 1, options)
names = [each.name for each in session.get_outputs()]
(described,) = session.get_inputs()
assert described.shape == [-1, 3, 4, 4] and described.datatype == aclruntime.dtype.float32 == aclruntime.float32
session.set_dynamic_batchsize(2)
session.set_custom_outsize([described.size])
array = np.frombuffer(bytes(described.realsize), np.int8)
pointer = aclruntime.BaseTensor(array.__array_interface__["data"][0], array.nbytes)
tensor = aclruntime.Tensor(array)
tensor.to_device(1)
for feeds in ([pointer], [tensor]):
    outputs = session.run(names, feeds)
    for output in outputs:
        output.to_host()
    assert [np.array(output).shape for output in outputs] == [(2, 3, 4, 4)]
assert len(session.sumary().exec_time_list) == 6
memory = aclruntime.MemorySummary()
assert len(memory.H2D_time_list) == 2 and len(memory.D2H_time_list) == 2
session.options().loop = 1
session.reset_sumaryinfo()
aclruntime.MemorySummary().reset()
assert session.sumary().exec_time_list == [] == memory.H2D_time_list
session.run(names, [pointer])
(time,) = session.sumary().exec_time_list
pair = aclruntime.batch([tensor, tensor], keep_dims=True)
assert (pair.device, pair.shape, pair.type) == (1, [2 * array.nbytes], aclruntime.type.memory_device)
assert "<Model>" in str(session) and "<Tensor>" in str(tensor)
"""

OLDER: Final = """
assert generation == "2022" and isinstance(time, float)
session.finalize()
"""

NEWER: Final = """
start, end = time
assert generation == "2023" and end > start
assert session.get_max_dym_batchsize() == 4 and session.get_dym_aipp_input_exist() == 0
feeds = [[pointer], [pointer]]
results = session.run_pipeline(names, feeds, [[(2, 3, 4, 4)]] * 2, False, False)
assert [[np.array(tensor).shape for tensor in outputs] for outputs in results] == [[(2, 3, 4, 4)]] * 2
infer_options = aclruntime.infer_options()
infer_options.output_dir, infer_options.out_format, infer_options.pure_infer_mode = ".", "BIN", True
infer_options.auto_dym_shape = infer_options.auto_dym_dims = False
other = aclruntime.InferenceSession(model, 1, options)
other.set_dynamic_batchsize(2)
session.run_pipeline([["pure_infer_data_zero"]] * 3, infer_options, [other])
assert len(session.sumary().exec_time_list) == 1 + 2 + 3
session.first_inner_run(names, [pointer])
session.inner_run([0], names, False, True)
(output,) = session.inner_run([0], names, True, True)
output.to_host()
assert set(np.array(output).ravel()) == {3.0}
for each in (session, other):
    each.free_resource()
aclruntime.InferenceSession.finalize()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An emulated host with two chips, and a model for 1, 2 or 4 images."""
    root = tmp_path_factory.mktemp("emulator")
    install = [sys.executable, "-m", "emulator", "install", "--home", str(root), "--cards", "2"]
    subprocess.run(install, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    gears = [((n,), (n, 3, 4, 4)) for n in (1, 2, 4)]
    write_om(root / "m.om", shape=(-1, 3, 4, 4), kind=GearKind.BATCH, gears=gears)
    return root


@pytest.fixture
def call(home: Path, tmp_path: Path) -> Callable[[str, str], str]:
    """Return what runs a program with a generation of the runtime, in a folder of its own, and what it printed."""

    def run(generation: str, program: str) -> str:
        fleet = home / "fleet.json"
        fleet.write_text(json.dumps(json.loads(fleet.read_text()) | {"api": generation}))
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, str(home / "m.om"), generation],
            cwd=tmp_path,
            env={"PYTHONPATH": os.pathsep.join([str(home / "python"), str(ROOT)])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


def test_the_calls_of_the_older_package(call: Callable[[str, str], str]) -> None:
    """Times are floats, and the session itself finalizes."""
    printed = call("2022", COMMON + OLDER)
    assert printed.rstrip().endswith("[INFO] end to finalize acl")
    assert "unload model success" in printed


def test_the_calls_of_the_newer_package(call: Callable[[str, str], str], tmp_path: Path) -> None:
    """Pairs, pipelines over memory and files, inner runs, and a static finalize."""
    printed = call("2023", COMMON + NEWER)
    assert printed.rstrip().endswith("[INFO] end to finalize acl")
    written = np.fromfile(tmp_path / "pure_infer_data_zero_0.bin", np.float32)
    assert (written.size, set(written)) == (96, {1.0})
