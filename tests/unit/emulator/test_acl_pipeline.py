import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator import aclruntime
from emulator.acl_outputs import save
from emulator.acl_pipeline import PipelinedSession
from emulator.fleet import Api
from emulator.home import Home
from emulator.om import GearKind
from tests.services.oms import write_om

GENERAL_FAILURE = "[-1][ACL: general failure] "
X = np.random.default_rng(3).standard_normal((2, 3, 4, 4)).astype(np.float32)
Y = np.maximum(X, 0) + 1
DIMS = [((1, 4), (1, 3, 4, 4)), ((2, 6), (2, 3, 6, 4))]


def _open(path: Path) -> PipelinedSession:
    session = aclruntime.model(str(path), 0, aclruntime.session_options())
    assert isinstance(session, PipelinedSession)
    return session


def _pointer(array: np.ndarray[Any, Any]) -> aclruntime.BaseTensor:
    return aclruntime.BaseTensor(array.__array_interface__["data"][0], array.nbytes)


def _options(folder: Path, **more: Any) -> aclruntime.infer_options:
    options = aclruntime.infer_options()
    options.output_dir = str(folder)
    for name, value in more.items():
        setattr(options, name, value)
    return options


def _error(call: Callable[[], object]) -> str:
    with pytest.raises(RuntimeError) as caught:
        call()
    return str(caught.value)


@pytest.fixture
def session(home: Home) -> PipelinedSession:
    """A session of a static model, two images at a time."""
    return _open(write_om(home.root / "m.om"))


def test_a_pipeline_over_files_writes_outputs(session: PipelinedSession, tmp_path: Path) -> None:
    """One file per element and input; only the last ending is taken off the name."""
    np.save(tmp_path / "a.b.npy", X)
    (tmp_path / "c.bin").write_bytes(X.tobytes())
    folder = tmp_path / "out"
    folder.mkdir()
    files = [[str(tmp_path / "a.b.npy")], [str(tmp_path / "c.bin")]]
    session.run_pipeline(files, _options(folder, out_format="NPY"), [])
    assert sorted(path.name for path in folder.iterdir()) == ["a.b_0.npy", "c_0.npy"]
    np.testing.assert_allclose(np.load(folder / "a.b_0.npy"), Y)
    assert len(session.sumary().exec_time_list) == 2


def test_sessions_share_a_pipeline(session: PipelinedSession, home: Home, tmp_path: Path) -> None:
    """Elements go round, and all times end up with the first, counted from one moment."""
    other = _open(home.root / "m.om")
    np.save(tmp_path / "x.npy", X)
    session.run_pipeline([[str(tmp_path / "x.npy")]] * 3, _options(Path(), output_dir=""), [other])
    times: Any = session.sumary().exec_time_list
    assert len(times) == 3
    assert len(other.sumary().exec_time_list) == 1
    assert all(0 <= start < end for start, end in times)


def test_a_session_is_not_in_its_own_pipeline_twice(
    session: PipelinedSession, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is done, and only stdout says so."""
    session.run_pipeline([["x.npy"]], _options(Path()), [session])
    assert "InferPipeline failed: cannot have session in same context" in capfd.readouterr().out


def test_a_pipeline_over_memory_returns_tensors_in_host_memory(session: PipelinedSession) -> None:
    """One list of outputs per list of feeds."""
    double = 2 * X
    results = session.run_pipeline(["y"], [[_pointer(X)], [_pointer(double)]], [[X.shape]] * 2, False, False)
    assert results is not None
    (first,), (second,) = results
    assert (first.device, first.type) == (-1, aclruntime.memory_host)
    np.testing.assert_allclose(np.array(first), Y)
    np.testing.assert_allclose(np.array(second), np.maximum(double, 0) + 1)


def test_a_pipeline_sets_dims_and_shapes_of_each_file(home: Home, tmp_path: Path) -> None:
    """Taken from the header of the npy file."""
    dims = _open(write_om(home.root / "d.om", shape=(-1, 3, -1, 4), kind=GearKind.DIMS, gears=DIMS))
    shapes = _open(write_om(home.root / "s.om", shape=(-1, 3, -1, 4)))
    shapes.set_custom_outsize([10000])
    np.save(tmp_path / "small.npy", np.zeros((1, 3, 4, 4), np.float32))
    np.save(tmp_path / "large.npy", np.zeros((2, 3, 6, 4), np.float32))
    files = [[str(tmp_path / "small.npy")], [str(tmp_path / "large.npy")]]
    for each, how in ((dims, "auto_dym_dims"), (shapes, "auto_dym_shape")):
        folder = tmp_path / how
        folder.mkdir()
        each.run_pipeline(files, _options(folder, out_format="NPY", **{how: True}), [])
        assert np.load(folder / "small_0.npy").shape == (1, 3, 4, 4)
        assert np.load(folder / "large_0.npy").shape == (2, 3, 6, 4)


@pytest.mark.parametrize(("name", "largest"), [("pure_infer_data_zero", 0), ("pure_infer_data_random", 254)])
def test_pure_inference_makes_up_bytes(home: Home, tmp_path: Path, name: str, largest: int) -> None:
    """The name says which."""
    session = _open(write_om(home.root / "m.om", dtype="uint8", shape=(4, 64)))
    session.run_pipeline([[name]], _options(tmp_path, out_format="BIN", pure_infer_mode=True), [])
    written = np.fromfile(tmp_path / f"{name}_0.bin", np.uint8)
    assert len(written) == 256
    assert bool(written.any()) is bool(largest)
    assert int(written.max()) <= largest


def test_an_error_inside_a_pipeline_ends_the_process(session: PipelinedSession, home: Home) -> None:
    """SIGABRT, as an exception does that leaves a C++ thread."""
    session.free_resource()
    script = (
        "import sys, aclruntime\n"
        "session = aclruntime.InferenceSession(sys.argv[1], 0, aclruntime.session_options())\n"
        "session.run_pipeline([['missing.npy']], aclruntime.infer_options(), [])\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(home.root / "m.om")],
        env={"PYTHONPATH": f"{Path(__file__).parents[3]}{os.pathsep}{home.root / 'python'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGABRT
    assert "terminate called after throwing an instance of 'std::runtime_error'" in done.stderr


def test_inner_runs_feed_outputs_back(home: Home) -> None:
    """The model is relu(a + b) + 1; its output becomes `a` again and again, `b` stays."""
    session = _open(write_om(home.root / "m.om", names=("a", "b"), shape=(2,)))
    a, b = np.zeros(2, np.float32), np.ones(2, np.float32)
    assert session.first_inner_run(["y"], [_pointer(a), _pointer(b)]) == []
    assert session.inner_run([0, -1], ["y"], False, True) == []
    (output,) = session.inner_run([0, -1], ["y"], True, False)
    output.to_host()
    assert np.array(output).tolist() == [6.0, 6.0]
    assert len(session.sumary().exec_time_list) == 3


@pytest.mark.parametrize(
    ("relation", "printed"),
    [
        ([0], "wrong inOutRelation size, inputsNum: 2, inOutList size: 1"),
        ([1, -1], "find outputdata index out of range"),
    ],
)
def test_a_wrong_relation_is_refused(
    home: Home, capfd: pytest.CaptureFixture[str], relation: list[int], printed: str
) -> None:
    """One entry per input, each an output there is."""
    session = _open(write_om(home.root / "m.om", names=("a", "b"), shape=(2,)))
    array = np.zeros(2, np.float32)
    session.first_inner_run(["y"], [_pointer(array), _pointer(array)])
    assert _error(lambda: session.inner_run(relation, ["y"], True, True)) == GENERAL_FAILURE
    assert printed in capfd.readouterr().out


def test_inner_runs_need_a_first(session: PipelinedSession, capfd: pytest.CaptureFixture[str]) -> None:
    """A run in between forgets it."""
    session.first_inner_run(["y"], [_pointer(X)])
    session.run(["y"], [_pointer(X)])
    assert _error(lambda: session.inner_run([-1], ["y"], True, True)) == GENERAL_FAILURE
    assert "[ERROR] can't find inputdatas" in capfd.readouterr().out


def test_dynamic_aipp_is_asked_for_and_set(session: PipelinedSession) -> None:
    """There is no such input; the setters accept all the same."""
    assert session.get_dym_aipp_input_exist() == 0
    assert _error(session.check_dym_aipp_input_exist) == GENERAL_FAILURE
    assert session.aipp_set_input_format("RGB888_U8") == 0
    assert session.aipp_set_src_image_size([4, 4]) == 0
    assert session.set_dym_aipp_info_set() == 0
    assert session.get_max_dym_batchsize() == 0


def test_the_older_generation_has_none_of_it(home: Home) -> None:
    """Times are floats, and `finalize` unloads the model of its session."""
    home.edit(lambda fleet: replace(fleet, api=Api.FLOATS))
    session: Any = aclruntime.InferenceSession(str(write_om(home.root / "m.om")), 0, aclruntime.session_options())
    for name in ("run_pipeline", "free_resource", "inner_run", "get_max_dym_batchsize", "aipp_set_input_format"):
        assert not hasattr(session, name)
    session.run(["y"], [_pointer(X)])
    assert isinstance(session.sumary().exec_time_list[0], float)
    session.finalize()
    assert "general failure" in _error(lambda: session.run(["y"], [_pointer(X)]))


def test_files_become_a_tensor(session: PipelinedSession, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One after another; what is too much, missing or empty is refused."""
    (described,) = session.get_inputs()
    halves = [tmp_path / "0.bin", tmp_path / "1.bin"]
    for path, half in zip(halves, X, strict=True):
        path.write_bytes(half.tobytes())
    tensor = session.create_tensor_from_fileslist(described, [str(path) for path in halves])
    assert (tensor.device, tensor.shape) == (0, [2, 3, 4, 4])
    (output,) = session.run(["y"], [tensor])
    output.to_host()
    np.testing.assert_allclose(np.array(output), Y)
    (tmp_path / "empty.bin").touch()
    for wrong, printed in (
        ([halves[0]] * 3, "offset:384 filesize:192 > size:384 invalid"),
        ([tmp_path / "none.bin"], "open file"),
        ([tmp_path / "empty.bin"], "binfile is empty"),
    ):
        create = partial(session.create_tensor_from_fileslist, described, [str(path) for path in wrong])
        assert _error(create) == "[1][ACL: invalid parameter] "
        assert printed in capfd.readouterr().out


def test_open_shapes_have_no_tensor_of_files(home: Home) -> None:
    """How large would it be?"""
    session = _open(write_om(home.root / "x.om", shape=(-1, 3)))
    (described,) = session.get_inputs()
    assert _error(lambda: session.create_tensor_from_fileslist(described, [])) == "[2][ACL: memory allocation fail] "


def test_an_output_asked_for_twice_has_no_memory_the_second_time(
    session: PipelinedSession, capfd: pytest.CaptureFixture[str]
) -> None:
    """Which shows when it is moved, and when it is dropped."""
    first, second = session.run(["y", "y"], [_pointer(X)])
    first.to_host()
    assert _error(second.to_host) == "[1004][Invalid parameter] "
    del second
    gc.collect()  # the traceback of the error holds it too
    assert "[1003][Invalid Pointer] Free failed, ptrData is nullptr." in capfd.readouterr().out


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array([[1.0, 0.000123456], [123456789.0, -2.5]], np.float32), b"1 0.000123456 \n1.23457e+08 -2.5 \n"),
        (np.array([[1.0]], np.float16), b"15360 \n"),
        (np.array([[65, 66]], np.uint8), b"A B \n"),
        (np.array([[-1, 2]], np.int64), b"-1 2 \n"),
        (np.array([[True, False]]), b"1 0 \n"),
    ],
)
def test_text_as_cpp_writes_it(tmp_path: Path, array: Any, text: bytes) -> None:
    """Six digits, bits of float16, characters of bytes."""
    save(str(tmp_path / "o"), array, "TXT")
    assert (tmp_path / "o.txt").read_bytes() == text


def test_float16_arrays_are_written_as_their_bits(tmp_path: Path) -> None:
    """The writer has no such type."""
    save(str(tmp_path / "o"), np.array([1.0], np.float16), "NPY")
    assert np.load(tmp_path / "o.npy").tolist() == [15360]


def test_what_cannot_be_written_is_only_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The pipeline goes on."""
    save(str(tmp_path / "none" / "o"), X, "BIN")
    assert "o.bin save failed" in capfd.readouterr().out
