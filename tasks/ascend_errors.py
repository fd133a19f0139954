"""What the Ascend tools mean by what they print: who is to blame, whether another try helps, what to do.

The exception of the runtime says next to nothing, its stdout says it all, so both are read together. The knowledge is
a table, see `tasks.ascend_signals`.
"""

import re
from collections.abc import Sequence
from typing import Final

from npuq.errors import Blame, DeviceError, NpuqError, ToolError
from tasks.ascend_signals import Retry, Signal, Tool, usable_signals

OUT_OF_MEMORY: Final = "device_memory"
_TOOL_CODE: Final = re.compile(r"^\s*((?:E|EZ|EC|EL|EE|EI|EJ)\d{4,5})\b", re.MULTILINE)
#: Lines that the tools print at the end of good runs, too: no sign of anything.
_NOISE: Final = re.compile(r"^.{0,200}main process disappeared!.{0,200}$", re.MULTILINE)


def classify(text: str, rows: Sequence[Signal]) -> Signal | None:
    """Return the first row that matches, or None."""
    meaningful = _NOISE.sub("", text)
    return next((row for row in rows if row.matches(meaningful)), None)


def tool_code(text: str) -> str | None:
    """Return the first error code that begins a line, for example `E10001`, or None."""
    found = _TOOL_CODE.search(text)
    return None if found is None else found.group(1)


def atc_error(output: str, how: str) -> ToolError:
    """Return the error of a failed conversion.

    Args:
        output: the last lines of `atc`, stdout and stderr together.
        how: what is wrong seen from outside, for example "exit status 255".
    """
    signal = classify(f"{how}\n{output}", usable_signals(Tool.ATC))
    own_code = tool_code(output)
    if signal is None:
        return ToolError(f"ATC failed ({how}); its own words are below.", code=own_code or "atc_failed", detail=output)
    return ToolError(
        f"ATC failed ({how}). {signal.advice}",
        code=own_code or signal.code,
        blame=signal.blame,
        retry=signal.retry is not Retry.NO,
        once=signal.retry is Retry.ONCE,
        detail=output,
    )


def runtime_error(error: Exception, printed: str, doing: str) -> NpuqError:
    """Return the error of a failed runtime call.

    Args:
        error: what the runtime raised.
        printed: what it printed since its last success, stdout and stderr together.
        doing: for example "loading m.om".
    """
    signal = classify(f"{error}\n{printed}", usable_signals(Tool.RUNTIME))
    said = str(error).strip()
    if signal is None:
        return DeviceError(f"The runtime failed {doing}: {said}. Its own words are below.", detail=printed)
    kind = DeviceError if signal.blame is Blame.DEVICE else ToolError
    return kind(
        f"The runtime failed {doing}: {said}. {signal.advice}",
        code=signal.code,
        blame=signal.blame,
        retry=signal.retry is not Retry.NO,
        once=signal.retry is Retry.ONCE,
        detail=printed,
    )
