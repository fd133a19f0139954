"""One suite for every implementation of `InferenceSession`: models whose shapes are bound after they are loaded."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from emulator.om import GearKind
from npuq.errors import Blame, NpuqError
from tasks.protocols import Array, InferenceSession
from tests.services.oms import write_om, write_onnx
from worker.aclruntime_session import AclRuntime, AclSession
from worker.onnx_session import OnnxSession

ROOT = Path(__file__).parents[2]
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A way to make a model dynamic: its open shape, the shapes there are, one that is not, and its gears."""

    shape: Shape
    good: tuple[Shape, ...]
    bad: Shape
    kind: GearKind | None = None
    gears: tuple[tuple[tuple[int, ...], Shape], ...] = ()
    output_bytes: tuple[int, ...] = ()


CASES = {
    "batch": Case(
        shape=(-1, 3, 4, 4),
        good=((1, 3, 4, 4), (4, 3, 4, 4)),
        bad=(3, 3, 4, 4),
        kind=GearKind.BATCH,
        gears=(((1,), (1, 3, 4, 4)), ((4,), (4, 3, 4, 4))),
    ),
    "image size": Case(
        shape=(2, 3, -1, -1),
        good=((2, 3, 4, 6), (2, 3, 8, 8)),
        bad=(2, 3, 6, 4),
        kind=GearKind.IMAGE_SIZE,
        gears=(((4, 6), (2, 3, 4, 6)), ((8, 8), (2, 3, 8, 8))),
    ),
    "dims": Case(
        shape=(-1, 3, -1, 4),
        good=((1, 3, 6, 4), (2, 3, 5, 4)),
        bad=(2, 3, 6, 4),
        kind=GearKind.DIMS,
        gears=(((1, 6), (1, 3, 6, 4)), ((2, 5), (2, 3, 5, 4))),
    ),
    "dims that look like a batch": Case(
        shape=(-1, 3, 4, 4),
        good=((1, 3, 4, 4), (4, 3, 4, 4)),
        bad=(3, 3, 4, 4),
        kind=GearKind.DIMS,
        gears=(((1,), (1, 3, 4, 4)), ((4,), (4, 3, 4, 4))),
    ),
    "shape": Case(shape=(-1, 3, -1, -1), good=((2, 3, 5, 7), (1, 3, 9, 9)), bad=(2, 2, 5, 7), output_bytes=(100_000,)),
}

Open = Callable[[Path], InferenceSession]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An emulated host with one chip."""
    root = tmp_path_factory.mktemp("emulator")
    install = [sys.executable, "-m", "emulator", "install", "--home", str(root), "--cards", "1"]
    subprocess.run(install, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    return root


@pytest.fixture(params=["2022", "2023"])
def open_om(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Return what opens an OM with a generation of the runtime."""
    fleet = home / "fleet.json"
    fleet.write_text(json.dumps(json.loads(fleet.read_text()) | {"api": request.param, "faults": []}))
    monkeypatch.setenv("NPUQ_EMULATOR_HOME", str(home))
    monkeypatch.syspath_prepend(home / "python")
    monkeypatch.delitem(sys.modules, "aclruntime", raising=False)
    runtime = AclRuntime(0, lambda: "the runtime's own words")
    opened: list[AclSession] = []

    def open_session(path: Path) -> AclSession:
        opened.append(runtime.open(path))
        return opened[-1]

    yield open_session
    for session in opened:
        session.close()
    runtime.finalize()


def _om(folder: Path, case: Case, names: Sequence[str] = ("x",)) -> Path:
    return write_om(folder / "m.om", shape=case.shape, names=names, kind=case.kind, gears=case.gears)


def _feed(shape: Shape, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _check_shapes(session: InferenceSession, case: Case) -> None:
    assert session.compiled_shapes == (case.shape,)
    for shape in (*case.good, *case.good):
        session.bind([shape], output_bytes=case.output_bytes)
        assert [each.shape for each in session.inputs] == [shape]
        (output,) = session.run([_feed(shape)])
        np.testing.assert_allclose(output, np.maximum(_feed(shape), 0) + 1, rtol=1e-6)
        assert session.outputs[0].shape == shape


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_shape_there_is_binds_on_a_chip(open_om: Open, tmp_path: Path, case: Case) -> None:
    """Back and forth; outputs have the shape of the run."""
    _check_shapes(open_om(_om(tmp_path, case)), case)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_same_shapes_bind_on_a_cpu(tmp_path: Path, case: Case) -> None:
    """The reference knows no gears: every size of an open axis is one."""
    axes = [f"d{axis}" if size == -1 else size for axis, size in enumerate(case.shape)]
    _check_shapes(OnnxSession(write_onnx(tmp_path / "m.onnx", shape=axes)), case)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_other_shapes_are_the_inputs_fault(open_om: Open, tmp_path: Path, case: Case) -> None:
    """A wrong gear, a fixed axis, a rank, a number of inputs; what was bound before still counts."""
    session = open_om(_om(tmp_path, case))
    session.bind([case.good[0]], output_bytes=case.output_bytes)
    for shapes in ([case.bad], [case.good[0][1:]], [], [case.good[0]] * 2, [(0, *case.good[0][1:])]):
        with pytest.raises(NpuqError) as caught:
            session.bind(shapes, output_bytes=case.output_bytes)
        assert (caught.value.info.code, caught.value.info.blame) == ("shape_unknown", Blame.INPUT)
        assert caught.value.info.detail == "the runtime's own words"
    session.run([_feed(case.good[0])])


def test_what_is_unbound_does_not_run(open_om: Open, tmp_path: Path) -> None:
    """On a chip as on a CPU."""
    case = CASES["dims"]
    cpu = OnnxSession(write_onnx(tmp_path / "m.onnx", shape=("n", 3, "h", 4)))
    for session in (open_om(_om(tmp_path, case)), cpu):
        with pytest.raises(NpuqError) as caught:
            session.run([_feed(case.good[0])])
        assert caught.value.info.code == "shape_unbound"


def test_feeds_have_to_have_what_is_bound(open_om: Open, tmp_path: Path) -> None:
    """Another gear's batch is refused."""
    session = open_om(_om(tmp_path, CASES["batch"]))
    session.bind([(4, 3, 4, 4)])
    with pytest.raises(NpuqError) as caught:
        session.run([_feed((1, 3, 4, 4))])
    assert caught.value.info.code == "feed_size"


def test_outputs_of_unknown_size_need_memory(open_om: Open, tmp_path: Path) -> None:
    """Said before anything runs."""
    session = open_om(_om(tmp_path, CASES["shape"]))
    with pytest.raises(NpuqError) as caught:
        session.bind([(1, 3, 4, 4)])
    assert (caught.value.info.code, caught.value.info.blame) == ("output_size_unknown", Blame.INPUT)


def test_a_static_model_takes_its_own_shapes(open_om: Open, tmp_path: Path) -> None:
    """So a caller need not know whether there is anything to bind."""
    session = open_om(write_om(tmp_path / "m.om", shape=(2, 3)))
    session.bind([(2, 3)])
    with pytest.raises(NpuqError, match="was not compiled for"):
        session.bind([(1, 3)])
    assert session.run([_feed((2, 3))])[0].shape == (2, 3)


def test_all_inputs_are_bound_and_fed_in_order(open_om: Open, tmp_path: Path) -> None:
    """One feed per input."""
    case = CASES["batch"]
    session = open_om(_om(tmp_path, case, names=("a", "b")))
    session.bind([case.good[1]] * 2)
    feeds = [_feed(case.good[1], seed) for seed in (1, 2)]
    (output,) = session.run(feeds)
    np.testing.assert_allclose(output, np.maximum(feeds[0] + feeds[1], 0) + 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint8", "int32", "int64", "bool"])
def test_element_types(open_om: Open, tmp_path: Path, dtype: str) -> None:
    """Also of arrays that spell 64 bits in C's other way."""
    session = open_om(write_om(tmp_path / "m.om", shape=(2, 3), dtype=dtype))
    assert session.inputs[0].dtype == session.outputs[0].dtype == np.dtype(dtype)
    feed = np.ones((2, 3), np.longlong if dtype == "int64" else dtype)
    (output,) = session.run([feed])
    assert output.dtype == np.dtype(dtype)
    assert output.tolist() == (feed + 1 if np.dtype(dtype).kind == "f" else feed).tolist()


def test_a_clock_becomes_coarse_with_the_time_since_the_load(
    open_om: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times are single precision and count from there."""
    session = open_om(_om(tmp_path, CASES["batch"]))
    assert isinstance(session, AclSession)
    assert not session.clock_is_coarse
    loaded = time.monotonic()
    monkeypatch.setattr("worker.aclruntime_session.time.monotonic", lambda: loaded + 60)
    assert session.clock_is_coarse
