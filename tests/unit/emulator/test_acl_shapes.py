from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator import aclruntime
from emulator.acl_pipeline import PipelinedSession
from emulator.fleet import Fleet, Mode, ServiceTime
from emulator.home import Home
from emulator.om import GearKind
from tests.services.oms import write_om

GENERAL_FAILURE = "[-1][ACL: general failure] "
FAILED = "[1][ACL: invalid parameter] "
BATCHES = [((n,), (n, 3, 4, 4)) for n in (1, 2, 4)]
SIZES = [((4, 4), (1, 3, 4, 4)), ((6, 8), (1, 3, 6, 8))]
DIMS = [((1, 4), (1, 3, 4, 4)), ((2, 6), (2, 3, 6, 4))]


def _open(path: Path) -> PipelinedSession:
    options = aclruntime.session_options()
    options.log_level = 2
    session: PipelinedSession = aclruntime.InferenceSession(str(path), 0, options)
    return session


def _run(session: PipelinedSession, *feeds: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    pointers = [aclruntime.BaseTensor(feed.__array_interface__["data"][0], feed.nbytes) for feed in feeds]
    (output,) = session.run(["y"], pointers)
    output.to_host()
    return np.array(output)


def _error(call: Callable[[], object]) -> str:
    with pytest.raises(RuntimeError) as caught:
        call()
    return str(caught.value)


def _feed(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


@pytest.fixture
def batches(home: Home) -> PipelinedSession:
    """A session of a model for 1, 2 or 4 images."""
    return _open(write_om(home.root / "b.om", shape=(-1, 3, 4, 4), kind=GearKind.BATCH, gears=BATCHES))


@pytest.fixture
def sizes(home: Home) -> PipelinedSession:
    """A session of a model for images of 4x4 or 6x8."""
    return _open(write_om(home.root / "s.om", shape=(1, 3, -1, -1), kind=GearKind.IMAGE_SIZE, gears=SIZES))


@pytest.fixture
def dims(home: Home) -> PipelinedSession:
    """A session of a model with two gears of batch and height."""
    return _open(write_om(home.root / "d.om", shape=(-1, 3, -1, 4), kind=GearKind.DIMS, gears=DIMS))


@pytest.fixture
def shapes(home: Home) -> PipelinedSession:
    """A session of a model with 1 to 4 images of any size."""
    limits = ((1, 4), (3, 3), (1, -1), (1, -1))
    return _open(write_om(home.root / "x.om", shape=(-1, 3, -1, -1), limits=limits))


def test_a_batch_binds(batches: PipelinedSession) -> None:
    """`realsize` follows the gear, `size` stays that of the largest, and so many images come out."""
    (described,), (output,) = batches.get_inputs(), batches.get_outputs()
    assert (described.shape, described.size, described.realsize) == ([-1, 3, 4, 4], 768, 768)
    assert (output.shape, output.size) == ([4, 3, 4, 4], 768)
    assert batches.get_max_dym_batchsize() == 4
    for count in (2, 4, 1):
        batches.set_dynamic_batchsize(count)
        assert described.realsize == 192 * count
        feed = _feed(count, 3, 4, 4)
        np.testing.assert_allclose(_run(batches, feed), np.maximum(feed, 0) + 1)


def test_a_batch_without_a_gear_is_refused(batches: PipelinedSession, capfd: pytest.CaptureFixture[str]) -> None:
    """The exception says nothing, stdout says which there are; what was set before still counts."""
    batches.set_dynamic_batchsize(2)
    assert _error(lambda: batches.set_dynamic_batchsize(3)) == FAILED
    printed = capfd.readouterr().out
    assert "[INFO] check dynamic batch success" in printed
    assert "[ERROR] the dymBatch parameter is not correct" in printed
    assert "model has dynamic batch size:{[1][2][4]}, please set correct dynamic batch size" in printed
    assert _run(batches, _feed(2, 3, 4, 4)).shape == (2, 3, 4, 4)


def test_static_mode_leaves_realsize_alone(batches: PipelinedSession) -> None:
    """As the C++ does; and without a gear nothing is executed."""
    batches.set_dynamic_batchsize(1)
    batches.set_staticbatch()
    assert batches.get_inputs()[0].realsize == 192
    assert _error(lambda: _run(batches, _feed(1, 3, 4, 4))) == GENERAL_FAILURE


def test_feeds_have_to_have_the_size_of_the_gear(batches: PipelinedSession, capfd: pytest.CaptureFixture[str]) -> None:
    """Counted in bytes."""
    batches.set_dynamic_batchsize(2)
    assert _error(lambda: _run(batches, _feed(4, 3, 4, 4))) == GENERAL_FAILURE
    assert "[ERROR] Check i:0 name:x in size:768 needsize:384 not match" in capfd.readouterr().out


def test_an_image_size_binds_as_height_and_width(sizes: PipelinedSession, capfd: pytest.CaptureFixture[str]) -> None:
    """The other way round there is no such gear."""
    sizes.set_dynamic_hw(6, 8)
    assert sizes.get_inputs()[0].realsize == 3 * 6 * 8 * 4
    assert _run(sizes, _feed(1, 3, 6, 8)).shape == (1, 3, 6, 8)
    assert _error(lambda: sizes.set_dynamic_hw(8, 6)) == FAILED
    assert "[ERROR] the dymHW parameter is not correct" in capfd.readouterr().out


def test_dims_bind(dims: PipelinedSession) -> None:
    """All dimensions are given, also those that are fixed."""
    dims.set_dynamic_dims("x:2,3,6,4")
    assert dims.get_inputs()[0].realsize == 2 * 3 * 6 * 4 * 4
    assert _run(dims, _feed(2, 3, 6, 4)).shape == (2, 3, 6, 4)


def test_dims_match_by_position_and_are_sized_by_name(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    """A wrong name passes the check; its input keeps the largest size."""
    path = write_om(home.root / "d.om", names=("a", "b"), shape=(-1, 3, -1, 4), kind=GearKind.DIMS, gears=DIMS)
    session = _open(path)
    session.set_dynamic_dims("a:1,3,4,4;c:1,3,4,4")
    assert [each.realsize for each in session.get_inputs()] == [192, 576]
    assert "[WARN] find no in names:c" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("x:2,3,5,4", "[ERROR] the dynamic_dims parameter is not correct"),
        ("x:2,3", "[ERROR] the dymDims parameter is not correct i:0 dysize:2 dimcount:4"),
        ("x", "[ERROR] the dynamic_dims parameter is not correct"),
        ("", "dysize:0 dimcount:4"),
    ],
)
def test_wrong_dims(dims: PipelinedSession, capfd: pytest.CaptureFixture[str], text: str, printed: str) -> None:
    """The gears are listed."""
    assert _error(lambda: dims.set_dynamic_dims(text)) == GENERAL_FAILURE
    out = capfd.readouterr().out
    assert printed in out or text == "x"
    assert "[ERROR] dims[1]:[2][3][6][4]" in out


def test_dims_have_to_be_set(dims: PipelinedSession, capfd: pytest.CaptureFixture[str]) -> None:
    """Said before anything is executed."""
    assert _error(lambda: _run(dims, _feed(2, 3, 6, 4))) == GENERAL_FAILURE
    assert "[WARN] check failed dym gearcount:2 but dymtype:0 not set" in capfd.readouterr().out


def test_a_shape_binds_with_memory_for_the_output(shapes: PipelinedSession) -> None:
    """The size of the outputs is not known before, so somebody has to say it."""
    (described,), (output,) = shapes.get_inputs(), shapes.get_outputs()
    assert (described.size, output.size, output.shape) == (0, 0, [-1, 3, -1, -1])
    shapes.set_dynamic_shape("x:2,3,5,7")
    assert described.realsize == 2 * 3 * 5 * 7 * 4
    feed = _feed(2, 3, 5, 7)
    assert _error(lambda: _run(shapes, feed)).startswith("[3011][Infer: find outputsize is zero please check")
    shapes.set_custom_outsize([1000])
    np.testing.assert_allclose(_run(shapes, feed), np.maximum(feed, 0) + 1)


def test_too_little_memory_for_an_output(shapes: PipelinedSession, capfd: pytest.CaptureFixture[str]) -> None:
    """The execution fails."""
    shapes.set_dynamic_shape("x:2,3,5,7")
    shapes.set_custom_outsize([100])
    assert _error(lambda: _run(shapes, _feed(2, 3, 5, 7))) == GENERAL_FAILURE
    assert "[ERROR] execute model failed, modelId is" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("x:1,3,4,4;y:1", "[ERROR] om has 1 input, but dymShape parametet give 2"),
        ("y:1,3,4,4", "[ERROR] the dymShape parameter set error, please check input name"),
    ],
)
def test_wrong_shapes(shapes: PipelinedSession, capfd: pytest.CaptureFixture[str], text: str, printed: str) -> None:
    """Number and names of the inputs are checked at once."""
    assert _error(lambda: shapes.set_dynamic_shape(text)) == GENERAL_FAILURE
    assert printed in capfd.readouterr().out


@pytest.mark.parametrize("shape", [(5, 3, 4, 4), (1, 2, 4, 4), (1, 3, 4)])
def test_a_shape_outside_the_limits_is_not_executed(shapes: PipelinedSession, shape: tuple[int, ...]) -> None:
    """The setter does not look at them."""
    shapes.set_dynamic_shape(f"x:{','.join(map(str, shape))}")
    shapes.set_custom_outsize([10000])
    assert _error(lambda: _run(shapes, _feed(*shape))) == GENERAL_FAILURE


def test_a_static_model_has_no_gears(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    """Each setter says which flag was missing at the conversion."""
    session = _open(write_om(home.root / "m.om"))
    assert _error(lambda: session.set_dynamic_batchsize(2)) == FAILED
    assert _error(lambda: session.set_dynamic_hw(4, 4)) == FAILED
    assert _error(lambda: session.set_dynamic_dims("x:2,3,4,4")) == GENERAL_FAILURE
    printed = capfd.readouterr().out
    for flag in ("dynamic_batch_size", "dynamic_image_size", "dynamic_dims"):
        assert f"the {flag} parameter is not specified for model conversion" in printed


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint8", "int32", "int64"])
def test_element_types(home: Home, dtype: str) -> None:
    """Sizes in bytes, and outputs of the model's type."""
    session = _open(write_om(home.root / "m.om", dtype=dtype, shape=(2, 3)))
    assert session.get_inputs()[0].size == 6 * np.dtype(dtype).itemsize
    output = _run(session, np.full((2, 3), 7, dtype))
    assert output.dtype == dtype
    assert output.tolist() == np.full((2, 3), 8 if np.dtype(dtype).kind == "f" else 7).tolist()


def test_timed_mode_knows_gears_and_no_other_dynamic_shapes(home: Home) -> None:
    """It computes nothing, and so cannot know what would come out."""
    gears = write_om(home.root / "b.om", shape=(-1, 3, 4, 4), kind=GearKind.BATCH, gears=BATCHES)
    open_shape = write_om(home.root / "x.om", shape=(-1, 3, -1, -1))
    home.edit(_timed)
    session = _open(gears)
    session.set_dynamic_batchsize(2)
    assert not _run(session, _feed(2, 3, 4, 4)).any()
    assert _error(lambda: _open(open_shape)) == FAILED


def _timed(fleet: Fleet) -> Fleet:
    return replace(fleet, mode=Mode.TIMED, service_time=ServiceTime(base_ms=0.1, per_sample_ms=0.0))
