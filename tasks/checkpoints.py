"""Reads published checkpoints without running what they contain, and loads them strictly.

A checkpoint is a pickle, and a pickle is a program. Only torch's weights-only reader is used, which builds tensors and
plain containers and refuses everything else.
"""

import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from npuq.errors import CheckpointError

if TYPE_CHECKING:
    import torch

_SHOWN: Final = 3
#: BatchNorm's step counter: absent from files written before torch 0.4.1, and without effect in eval mode.
_STEP_COUNTER: Final = "num_batches_tracked"


def read_state_dict(path: Path, *, wrapper: str = "state_dict", prefix: str = "module.") -> "dict[str, torch.Tensor]":
    """Read the state dict of a checkpoint file.

    Args:
        path: a file written by `torch.save`: a state dict, or a dict that holds one under `wrapper`.
        wrapper: the key of the published form.
        prefix: cut from keys that begin with it (what DataParallel adds).

    Raises:
        CheckpointError: not such a file, damaged, or it holds more than tensors and plain values.
    """
    content = _read_weights_only(path)
    if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
        content = content[wrapper]
    if not _is_state_dict(content):
        raise CheckpointError(
            f"{path.name} holds {_describe(content)}, but neither a state dict nor a dict with one under {wrapper!r}. "
            f"Save it again as torch.save({{{wrapper!r}: network.state_dict()}}, file)."
        )
    state = {key.removeprefix(prefix): tensor for key, tensor in content.items()}
    if len(state) != len(content):
        raise CheckpointError(
            f"{path.name} holds the same weight both with and without {prefix!r} before its name. Keep one of each, "
            f"and save it again as torch.save({{{wrapper!r}: state}}, file)."
        )
    return state


def load_strictly(network: "torch.nn.Module", state: "Mapping[str, torch.Tensor]") -> None:
    """Copy a state dict into a network; every weight must be there, fit, and be a finite number.

    The one exception are BatchNorm's step counters, which old files lack; they keep the network's value. A weight that
    the network has in several places must be the same under each of its names.

    Raises:
        CheckpointError: naming the first keys that are missing, unexpected, misshapen or at odds with each other. The
            network is unchanged.
    """
    import torch

    expected = network.state_dict()
    missing = [key for key in expected if key not in state and not key.endswith(_STEP_COUNTER)]
    unexpected = [key for key in state if key not in expected]
    misshapen = [
        f"{key} has {_signature(state[key])}, wanted is {_signature(wanted)}"
        for key, wanted in expected.items()
        if key in state and not _fits(state[key], wanted)
    ]
    faults = [
        *_listed("missing", missing),
        *_listed("unexpected", unexpected),
        *_listed("of another shape", misshapen),
    ]
    if faults:
        raise CheckpointError(
            f"The checkpoint does not fit the network: {'; '.join(faults)}. "
            "Is it a checkpoint of another model, or of a variant? Submit the one that the recipe was written for."
        )
    broken = [key for key, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise CheckpointError(
            f"The checkpoint holds weights that are not finite: {'; '.join(_listed('NaN or infinite', broken))}. "
            "Its training went astray; use another one."
        )
    torn = [f"{key} and {first}" for key, first in _shared(network) if not _same(state.get(key), state.get(first))]
    if torn:
        raise CheckpointError(
            "The checkpoint holds different values for weights that this network has only once: "
            f"{'; '.join(_listed('pairs that differ', torn))}. Is it a checkpoint of a variant?"
        )
    network.load_state_dict({**expected, **state}, strict=True)


def _shared(network: "torch.nn.Module") -> list[tuple[str, str]]:
    """Return the further names of weights that have several, each with the weight's first name."""
    first_names: dict[int, str] = {}
    entries = network.state_dict(keep_vars=True)  # the network's own tensors, so that identity tells
    names = [(key, first_names.setdefault(id(tensor), key)) for key, tensor in entries.items()]
    return [(key, first) for key, first in names if key != first]


def _same(one: "torch.Tensor | None", other: "torch.Tensor | None") -> bool:
    """Compare two entries; step counters may be absent."""
    import torch

    return one is other or (one is not None and other is not None and torch.equal(one.float(), other.float()))


def _read_weights_only(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the age of the format; the outcome says enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path.name} holds more than tensors and plain values, or is no checkpoint at all. It was not loaded, "
            "because loading it could run code that it contains. On a machine where you trust it, save it again as "
            "torch.save({'state_dict': network.state_dict()}, file).",
            code="checkpoint_refused",
            detail=_refused_part(str(error)),
        ) from error
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no file {path}.") from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(
            f"{path.name} is not a readable checkpoint: it is damaged, cut short, or was not written by torch.save. "
            "Fetch it again, compare its size with the publisher's, and submit again.",
            detail=str(error),
        ) from error


def _refused_part(message: str) -> str:
    """Return what the reader refused; its advice to load the file regardless stays out."""
    return message.partition("WeightsUnpickler error: ")[2].partition("\n")[0] or "unknown pickle content"


def _is_state_dict(content: object) -> bool:
    import torch

    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items())
    )


def _describe(content: object) -> str:
    if isinstance(content, Mapping):
        keys = ", ".join(repr(key) for key in list(content)[:_SHOWN])
        return f"a dict with {len(content)} entries ({keys} ...)" if content else "an empty dict"
    return f"a {type(content).__name__}"


def _fits(tensor: "torch.Tensor", wanted: "torch.Tensor") -> bool:
    return tensor.shape == wanted.shape and tensor.is_floating_point() == wanted.is_floating_point()


def _signature(tensor: "torch.Tensor") -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _listed(what: str, items: Iterable[str]) -> list[str]:
    """Return nothing, or one phrase with the first few items."""
    found = list(items)
    if not found:
        return []
    more = " ..." if len(found) > _SHOWN else ""
    return [f"{len(found)} {what} ({', '.join(found[:_SHOWN])}{more})"]
