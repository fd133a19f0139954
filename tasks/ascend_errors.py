"""What the Ascend tools mean by what they print: who is to blame, whether another try helps, what to do. Pure.

The exception of the runtime says next to nothing, its stdout says it all. The tables are read from the top, the first
row whose patterns are all found counts; put what is specific above what is general.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from npuq.errors import Blame, DeviceError, NpuqError, ToolError

_TOOL_CODE: Final = re.compile(r"^\s*((?:E|EZ|EC|EL|EE|EI|EJ)\d{4,5})\b", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A failure that can be recognised.

    Attributes:
        patterns: regular expressions that must all be found.
        code: short name of the failure.
        blame: who is to blame.
        retry: whether another try may help.
        advice: what is wrong and what to do, in one or two sentences.
    """

    patterns: tuple[str, ...]
    code: str
    blame: Blame
    retry: bool
    advice: str

    def matches(self, text: str) -> bool:
        """Return whether all patterns are in the text."""
        return all(re.search(pattern, text) for pattern in self.patterns)


#: Of `atc`. The error reported carries the tool's own code; `code` is for failures that have none.
ATC_SIGNALS: Final = (
    Signal(
        patterns=(r"libascend_hal\.so: cannot open shared object",),
        code="driver_library_missing",
        blame=Blame.HOST,
        retry=True,
        advice="This host has no NPU driver: add the toolkit's `<arch>-linux/devlib` folder to LD_LIBRARY_PATH.",
    ),
    Signal(
        patterns=(r"\b(?:EC0010|E40000)\b",),
        code="atc_python",
        blame=Blame.HOST,
        retry=True,
        advice="ATC's Python on this host lacks a module (see below): install numpy<2, decorator, sympy, attrs, cffi, "
        "pyyaml, pathlib2, psutil, protobuf, scipy, requests and absl-py for the Python that CANN uses.",
    ),
    Signal(
        patterns=(r"oom-killer|Out of memory|Cannot allocate memory|bad_alloc",),
        code="atc_out_of_memory",
        blame=Blame.HOST,
        retry=True,
        advice="The host ran out of memory while ATC compiled: lower host_slots or MAX_COMPILE_CORE_NUMBER.",
    ),
    Signal(
        patterns=(r"\bE10001\b", r"input_shape"),
        code="atc_parameter",
        blame=Blame.INPUT,
        retry=False,
        advice="ATC does not find an input of that name or shape in the model: the ONNX must have the recipe's inputs.",
    ),
    Signal(
        patterns=(r"\bE1001[67]\b",),
        code="atc_node",
        blame=Blame.INPUT,
        retry=False,
        advice="ATC does not find a node that was named: the ONNX must have the recipe's inputs and outputs.",
    ),
    Signal(
        patterns=(r"\bE19010\b",),
        code="atc_opset",
        blame=Blame.INPUT,
        retry=False,
        advice="The model uses an operator version that this CANN does not know: export with a lower opset.",
    ),
    Signal(
        patterns=(r"\bEZ3003\b",),
        code="atc_operator",
        blame=Blame.INPUT,
        retry=False,
        advice="The chip has no kernel for an operator of the model: replace it in the ONNX, or use a newer CANN.",
    ),
    Signal(
        patterns=(r"\bE1(?:0|1|2|4|6)\d{3}\b",),
        code="atc_parameter",
        blame=Blame.INPUT,
        retry=False,
        advice="ATC refuses the model or a parameter; its own words are below.",
    ),
    Signal(
        patterns=(r"\bE2\d{4}\b",),
        code="atc_operator",
        blame=Blame.INPUT,
        retry=False,
        advice="ATC cannot compile an operator of the model; its own words are below.",
    ),
    Signal(
        patterns=(r"\bE13\d{3}\b",),
        code="atc_file",
        blame=Blame.HOST,
        retry=True,
        advice="ATC could not read or write a file on this host: look at its disk and permissions.",
    ),
    Signal(
        patterns=(r"\b(?:E19999|EZ9999)\b",),
        code="atc_inner",
        blame=Blame.INPUT,
        retry=True,
        advice="An inner error of ATC. If it comes again, the model is at fault, or this CANN.",
    ),
)

#: Of the runtime (`aclruntime`, ACL), over the exception's text and what was printed since the last success.
RUNTIME_SIGNALS: Final = (
    Signal(
        patterns=(r"507010|507901|lost heartbeat",),
        code="device_lost",
        blame=Blame.DEVICE,
        retry=True,
        advice="The chip has stopped answering; it needs a reset by its operator.",
    ),
    Signal(
        patterns=(r"\b(?:107001|207004)\b|EE1001.*input data rang",),
        code="device_misaddressed",
        blame=Blame.HOST,
        retry=True,
        advice="No chip has that number for this process: is it mapped into the container, is the driver loaded?",
    ),
    Signal(
        patterns=(r"507899", r"/dev/davinci|aclInit|acl init"),
        code="device_not_accessible",
        blame=Blame.HOST,
        retry=True,
        advice="/dev/davinci* cannot be opened: map the devices and join the group HwHiAiUser.",
    ),
    Signal(
        patterns=(r"507033", r"EL0004|Memory_Allocation_Failure"),
        code="device_memory_at_open",
        blame=Blame.DEVICE,
        retry=True,
        advice="The chip's memory is full before anything was loaded: somebody else holds it, see `npu-smi info`.",
    ),
    Signal(
        patterns=(r"507033", r"aicpu|OPP|E30006|version_verify"),
        code="cann_mismatch",
        blame=Blame.HOST,
        retry=True,
        advice="CANN and the driver of this host do not fit together; compare their versions.",
    ),
    Signal(
        patterns=(r"507033",),
        code="device_open",
        blame=Blame.DEVICE,
        retry=True,
        advice="The chip cannot be opened: driver, firmware or hardware. Look at `npu-smi info`.",
    ),
    Signal(
        patterns=(r"EL0004|\b(?:207001|207018|245000)\b",),
        code="device_memory",
        blame=Blame.INPUT,
        retry=False,
        advice="The model does not fit the chip's memory, with nothing else loaded: use a smaller batch size.",
    ),
    Signal(
        patterns=(r"EJ0001",),
        code="residual_process",
        blame=Blame.DEVICE,
        retry=True,
        advice="A process of earlier work still holds the chip; see `npu-smi info`.",
    ),
    Signal(
        patterns=(r"\b(?:507014|507017|507046|107019|107020|545601)\b",),
        code="device_timeout",
        blame=Blame.DEVICE,
        retry=True,
        advice="The chip did not finish in the runtime's own time limit.",
    ),
    Signal(
        patterns=(r"\b(?:507011|507015|507018)\b|EZ9999",),
        code="device_exception",
        blame=Blame.DEVICE,
        retry=True,
        advice="A kernel failed on the chip. If it fails on another chip too, the model is at fault.",
    ),
    Signal(
        patterns=(r"stream_list\.size\(\)|507008",),
        code="om_wrong_chip",
        blame=Blame.INPUT,
        retry=False,
        advice="The OM was compiled for another kind of chip: convert it with this chip's soc_version.",
    ),
    Signal(
        patterns=(r"needsize|dymBatch parameter is not correct|set correct dynamic batch size",),
        code="feed_size",
        blame=Blame.INPUT,
        retry=False,
        advice="The batch does not have the size that the OM was compiled for.",
    ),
    Signal(
        patterns=(r"load model from (?:file|data) failed|545001",),
        code="om_load",
        blame=Blame.INPUT,
        retry=False,
        advice="The OM cannot be loaded: it is damaged, made for another chip, or by another CANN. Convert again.",
    ),
    Signal(
        patterns=(r"ret is -8005|507899",),
        code="driver_unusable",
        blame=Blame.HOST,
        retry=True,
        advice="The NPU driver of this host does not work; after an update the host has to be restarted.",
    ),
)

OUT_OF_MEMORY: Final = "device_memory"


def classify(text: str, signals: Sequence[Signal]) -> Signal | None:
    """Return the first signal that matches, or None."""
    return next((signal for signal in signals if signal.matches(text)), None)


def tool_code(text: str) -> str | None:
    """Return the first error code that begins a line, for example `E10001`, or None."""
    found = _TOOL_CODE.search(text)
    return None if found is None else found.group(1)


def atc_error(output: str, how: str) -> ToolError:
    """Return the error of a failed conversion.

    Args:
        output: the last lines of `atc`.
        how: what is wrong seen from outside, for example "exit status 255".
    """
    signal = classify(f"{how}\n{output}", ATC_SIGNALS)
    own_code = tool_code(output)
    if signal is None:
        return ToolError(f"ATC failed ({how}); its own words are below.", code=own_code or "atc_failed", detail=output)
    return ToolError(
        f"ATC failed ({how}). {signal.advice}",
        code=own_code or signal.code,
        blame=signal.blame,
        retry=signal.retry,
        detail=output,
    )


def runtime_error(error: Exception, printed: str, doing: str) -> NpuqError:
    """Return the error of a failed runtime call.

    Args:
        error: what the runtime raised.
        printed: what it printed since its last success.
        doing: for example "loading m.om".
    """
    signal = classify(f"{error}\n{printed}", RUNTIME_SIGNALS)
    said = str(error).strip()
    if signal is None:
        return DeviceError(f"The runtime failed {doing}: {said}. Its own words are below.", detail=printed)
    kind = DeviceError if signal.blame is Blame.DEVICE else ToolError
    return kind(
        f"The runtime failed {doing}: {said}. {signal.advice}",
        code=signal.code,
        blame=signal.blame,
        retry=signal.retry,
        detail=printed,
    )
