"""Published checkpoints load; everything else is refused with a sentence, and nothing in a file is ever run."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from npuq.errors import CheckpointError
from tasks import checkpoints, registry

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def published() -> Weights:
    """Return the weights of a network with a recognisable first value."""
    torch.manual_seed(7)
    return dict(registry.get("mobilenet_v1").network().state_dict())


def load(path: Path) -> torch.nn.Module:
    recipe = registry.get("mobilenet_v1")
    network = recipe.network()
    recipe.load_weights(network, path)
    return network


def save(content: Any, path: Path, *, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def parallel(weights: Weights) -> Weights:
    return {f"module.{key}": value for key, value in weights.items()}


def before_torch_0_4_1(weights: Weights) -> Weights:
    return {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}


def wrapped(weights: Weights) -> dict[str, Any]:
    return {"epoch": 90, "arch": "mobilenet", "state_dict": weights, "best_prec1": 69.5, "optimizer": {"state": {}}}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrap", [wrapped, dict], ids=["wrapped", "bare"])
@pytest.mark.parametrize("prefix", [parallel, dict], ids=["module.", "plain"])
@pytest.mark.parametrize("age", [before_torch_0_4_1, dict], ids=["old", "new"])
def test_every_published_form_loads(
    tmp_path: Path,
    published: Weights,
    *,
    zipped: bool,
    wrap: Callable[[Weights], Any],
    prefix: Callable[[Weights], Weights],
    age: Callable[[Weights], Weights],
) -> None:
    """Wrapper or not, `module.` or not, step counters or not, either file format: the weights are the same."""
    network = load(save(wrap(prefix(age(published))), tmp_path / "mobilenet.tar", zipped=zipped))
    for key, value in before_torch_0_4_1(dict(network.state_dict())).items():
        assert torch.equal(value, published[key]), key
    assert not network.training


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("fc.bias"), r"1 missing \(fc\.bias\)"),
        (lambda w: w.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (
            lambda w: w.update({"fc.bias": torch.zeros(21)}),
            r"1 of another shape \(fc\.bias has float32 \(21,\), wanted is float32 \(1000,\)\)",
        ),
        (lambda w: w.update({"fc.bias": torch.zeros(1000, dtype=torch.int8)}), r"fc\.bias has int8"),
        (lambda w: w.update({"fc.bias": torch.full((1000,), torch.nan)}), r"NaN or infinite \(fc\.bias\)"),
    ],
    ids=["missing", "unexpected", "shape", "dtype", "nan"],
)
def test_weights_that_do_not_fit_are_named(
    tmp_path: Path, published: Weights, change: Callable[[Weights], object], said: str
) -> None:
    """The first differing keys are in the message, so that a wrong file is recognised at once."""
    weights = dict(published)
    change(weights)
    with pytest.raises(CheckpointError, match=said):
        load(save(wrapped(weights), tmp_path / "other.tar"))


def test_same_weight_twice_is_refused(tmp_path: Path, published: Weights) -> None:
    """With and without the prefix, one of the two would be lost in silence."""
    with pytest.raises(CheckpointError, match=r"both with and without 'module\.'"):
        load(save(published | parallel({"fc.bias": published["fc.bias"]}), tmp_path / "both.tar"))


@pytest.fixture
def tied() -> torch.nn.Module:
    """Return a network that has one convolution under two names, as heads do that serve several levels."""
    convolution = torch.nn.Conv2d(2, 2, 1, bias=False)
    levels = [torch.nn.Sequential(convolution, torch.nn.BatchNorm2d(2)) for _ in range(2)]
    return torch.nn.ModuleList(levels).eval()


def test_shared_weight_is_loaded_from_equal_copies(tied: torch.nn.Module) -> None:
    """A state dict lists a shared weight under each of its names."""
    state = {key: torch.ones_like(value) for key, value in tied.state_dict().items()}
    checkpoints.load_strictly(tied, state)
    assert {key for key, value in tied.state_dict().items() if bool((value == 1).all())} == set(state)


def test_copies_of_a_shared_weight_that_differ_are_refused(tied: torch.nn.Module) -> None:
    """The last one would win in silence; it is a checkpoint of another network instead."""
    state = {key: torch.ones_like(value) for key, value in tied.state_dict().items()}
    state["1.0.weight"] = torch.full_like(state["1.0.weight"], 1.5)
    before = tied.get_parameter("0.0.weight").clone()
    with pytest.raises(CheckpointError, match=r"1 pairs that differ \(1\.0\.weight and 0\.0\.weight\)"):
        checkpoints.load_strictly(tied, state)
    assert torch.equal(tied.get_parameter("0.0.weight"), before)


@pytest.mark.parametrize("content", [{"model": {}}, [1, 2], {}, {"state_dict": 3}])
def test_file_without_weights_says_what_it_holds(tmp_path: Path, content: Any) -> None:
    """A file of something else is described, with the way to save a right one."""
    with pytest.raises(CheckpointError, match="neither a state dict nor a dict with one under 'state_dict'"):
        load(save(content, tmp_path / "else.tar"))


@pytest.mark.parametrize("content", [b"", b"\x80", b"PK\x03\x04 torn", b"not a checkpoint at all" * 10])
def test_damaged_file_is_a_checkpoint_error(tmp_path: Path, content: bytes) -> None:
    """Whatever torch raises on broken bytes, the person reads one sentence with the file's name."""
    (tmp_path / "broken.tar").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"broken\.tar"):
        load(tmp_path / "broken.tar")


def test_file_cut_short_is_a_checkpoint_error(tmp_path: Path, published: Weights) -> None:
    """An upload that broke off is told as damage."""
    path = save(wrapped(published), tmp_path / "short.tar")
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match=r"short\.tar is not a readable checkpoint"):
        load(path)


class Touch:
    """An object whose unpickling creates a file: code inside a checkpoint."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the call that unpickling makes."""
        return (Path.touch, (self.canary,))


def save_raw_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("writer", [save, save_raw_pickle])
def test_code_in_a_checkpoint_is_refused_and_not_run(
    tmp_path: Path, published: Weights, writer: Callable[[Any, Path], object]
) -> None:
    """The canary that the file would create does not appear, and the message says why the file was refused."""
    canary = tmp_path / "canary"
    path = tmp_path / "evil.tar"
    writer({"state_dict": dict(published), "optimizer": Touch(canary)}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        load(path)
    assert not canary.exists()


def test_the_canary_is_alive(tmp_path: Path) -> None:
    """The attack of the test above works on a reader that trusts its input; else that test could not fail."""
    canary = tmp_path / "canary"
    path = save({"optimizer": Touch(canary)}, tmp_path / "evil.tar")
    torch.load(path, weights_only=False)
    assert canary.exists()
