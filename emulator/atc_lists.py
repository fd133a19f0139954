"""The files of ATC's command line that single out operators: mix list, precision per type, kept nodes, fusion passes.

Operator types are written in Ascend's own names or in ONNX's; here they become ONNX's.
"""

import configparser
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from emulator.atc_errors import AtcError, invalid_value

T = TypeVar("T")

#: Ascend's name -> ONNX's, where they differ; of the operators that image models have.
_ONNX_TYPES: Final = {
    "Conv2D": "Conv",
    "DepthwiseConv2D": "Conv",
    "Conv2DTransposeD": "ConvTranspose",
    "Conv2DTranspose": "ConvTranspose",
    "MatMulV2": "MatMul",
    "BatchMatMul": "MatMul",
    "BatchMatMulV2": "MatMul",
    "GEMM": "Gemm",
    "BatchNorm": "BatchNormalization",
    "SoftmaxV2": "Softmax",
    "AvgPoolV2": "AveragePool",
    "ReduceMeanD": "ReduceMean",
    "ReduceSumD": "ReduceSum",
    "ResizeNearestNeighborV2": "Resize",
    "ResizeBilinearV2": "Resize",
    "RealDiv": "Div",
}
_PRECISE: Final = frozenset({"high_precision", "enable_float_32_execution", "enable_hi_float_32_execution"})
_OP_PRECISIONS: Final = _PRECISE | {"high_performance", "support_out_of_bound_index", "super_performance"}
_TYPE_PREFIX: Final = "OpType::"
_SHOWN_ABSENT: Final = 10
_BATCHNORM_PASSES: Final = frozenset({"ALL", "ConvBatchnormFusionPass"})


@dataclass(frozen=True, kw_only=True)
class Mixlist:
    """Operator types that mixed precision is told to keep in float32, or to lower after all."""

    keep_float32: frozenset[str] = frozenset()
    lower: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What `--keep_dtype` names: nodes, and types of operators as they are written there.

    An operator that the model lacks is refused with E10003, as the graph engine of 2022 does; its source of 2025 only
    logs a warning. Nothing would be kept then, and nobody would know.
    """

    path: str = ""
    nodes: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()

    def check(self, graph: Iterable[tuple[str, str]]) -> None:
        """Refuse what is not among the nodes of a graph, given as (name, ONNX type); raises AtcError."""
        there = list(graph)
        names, types = {name for name, _ in there}, {kind for _, kind in there}
        absent = [f"op name:{name}" for name in sorted(self.nodes - names)]
        absent += [f"op type:{kind}" for kind in sorted(self.types) if not onnx_types([kind]) & types]
        if absent:
            shown = " ".join(absent[:_SHOWN_ABSENT]) + (" .." if len(absent) > _SHOWN_ABSENT else "")
            operators = "operator" if len(absent) == 1 else "operators"
            reason = f"config file contains {len(absent)} {operators} not in the graph, {shown}"
            raise invalid_value("keep_dtype", self.path, reason, code="E10003")


def onnx_types(names: Iterable[str]) -> frozenset[str]:
    """Return operator types in ONNX's names."""
    return frozenset(_ONNX_TYPES.get(name.strip(), name.strip()) for name in names)


def read_mixlist(path: str) -> Mixlist:
    """Read `{"black-list": {"to-add": [...], "to-remove": [...]}, "white-list": ...}`; raises AtcError."""

    def read(text: str) -> Mixlist:
        document: dict[str, Any] = json.loads(text)
        black, white = document.get("black-list", {}), document.get("white-list", {})
        return Mixlist(
            keep_float32=onnx_types([*black.get("to-add", ()), *white.get("to-remove", ())]),
            lower=onnx_types([*black.get("to-remove", ()), *white.get("to-add", ())]),
        )

    return _read("modify_mixlist", path, "it is not a mix list", read)


def read_precise_types(path: str) -> frozenset[str]:
    """Read lines `Softmax=high_precision`, also below `[ByOpType]`; returns the precise types; raises AtcError."""

    def read(text: str) -> frozenset[str]:
        parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # names of operators keep their case
        parser.read_string(text if text.lstrip().startswith("[") else f"[ByOpType]\n{text}")
        given = {name: value for section in parser.sections() for name, value in parser.items(section)}
        unknown = sorted(set(given.values()) - _OP_PRECISIONS)
        if unknown:
            raise ValueError(f"{', '.join(unknown)} is no precision mode of an operator")
        return onnx_types(name for name, value in given.items() if value in _PRECISE)

    return _read("op_precision_mode", path, "it is not a list of operator types", read)


def read_kept(path: str) -> Kept:
    """Read the name of a node or `OpType::` and a type a line; raises AtcError, E10410 when the file is missing."""

    def read(text: str) -> Kept:
        lines = frozenset(text.split())
        types = frozenset(line.removeprefix(_TYPE_PREFIX) for line in lines if line.startswith(_TYPE_PREFIX))
        nodes = frozenset(line for line in lines if not line.startswith(_TYPE_PREFIX))
        return Kept(path=path, nodes=nodes, types=types)

    if not Path(path).is_file():
        raise AtcError("E10410", f"File [{path}] does not exist.", "Try again with a valid file directory.")
    return _read("keep_dtype", path, "it is not a list of nodes", read)


def read_fuses_batchnorm(path: str) -> bool:
    """Read `{"Switch": {"GraphFusion": {"X": "off"}}}`; tells whether batch normalisation is still folded."""

    def read(text: str) -> bool:
        switches: dict[str, Any] = json.loads(text)["Switch"]
        passes: dict[str, str] = switches.get("GraphFusion", {})
        wrong = sorted({value for named in switches.values() for value in named.values()} - {"on", "off"})
        if wrong:
            raise ValueError(f"{', '.join(wrong)} is neither on nor off")
        return not any(passes.get(name) == "off" for name in _BATCHNORM_PASSES)

    return _read("fusion_switch_file", path, "it is not a list of switches", read)


def _read(flag: str, path: str, wrong: str, read: Callable[[str], T]) -> T:
    try:
        return read(Path(path).read_text("utf-8"))
    except OSError:
        raise invalid_value(f"--{flag}", path, "the file does not exist or cannot be read.") from None
    except (ValueError, KeyError, AttributeError, TypeError, configparser.Error) as error:
        raise invalid_value(f"--{flag}", path, f"{wrong}: {error}.") from error
