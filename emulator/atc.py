"""The emulated `atc`: ONNX in, OM out, with the words, exit codes and litter of the real one.

The OM runs on the emulated runtime only. Exit code 0 and the success line, or 255 and an error block.
"""

import sys
from datetime import UTC, datetime
from os import getpid
from pathlib import Path
from typing import Final

from emulator import diary, om
from emulator.atc_flags import AtcError, AtcOptions, parse
from emulator.diary import Event
from emulator.fleet import FleetFileError
from emulator.home import Home

_EXIT_FAILED: Final = 255
_HELP: Final = """\
usage: atc --framework=5 --model=FILE.onnx --output=PATH --soc_version=Ascend310P3 [--input_shape="input:1,3,224,224"]
           [--input_format=NCHW] [--precision_mode=force_fp16] [--log=error] ...

Emulated by npuq: converts ONNX for the emulated chips; see emulator/atc_flags.py for all parameters.
"""


def main(arguments: list[str]) -> int:
    """Run the program; returns its exit code."""
    if arguments in (["--help"], ["-h"]):
        sys.stdout.write(_HELP)
        return 0
    try:
        home = Home.from_environment()
        toolkit_version = home.fleet().toolkit_version
    except FleetFileError as error:
        sys.stderr.write(f"atc (emulated): {error}\n")
        return _EXIT_FAILED
    _say("ATC start working now, please wait for a moment.")
    diary.note(home, Event.ATC_START)
    target = None
    try:
        options = parse(arguments)
        target = convert(options, toolkit_version)
    except AtcError as error:
        _say("ATC run failed, Please check the detail log, Try 'atc --help' for more information")
        _say(error_block(error))
        return _EXIT_FAILED
    finally:
        diary.note(home, Event.ATC_END, model=None if target is None else target.stem, ok=target is not None)
    _say("ATC run success, welcome to the next use.")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def error_block(error: AtcError) -> str:
    """Return the error as ATC prints it: code, pid, time, text, solution."""
    now = datetime.now(UTC).astimezone()
    stamp = f"{now:%Y-%m-%d-%H:%M:%S}.{now.microsecond // 1000:03d}.{now.microsecond % 1000:03d}"
    lines = [f"{error.code}: [PID: {getpid()}] {stamp} {error.text}"]
    if error.solution:
        lines.append(f"        Solution: {error.solution}")
    lines.append("        TraceBack (most recent call last):")
    return "\n".join(lines)


def convert(options: AtcOptions, toolkit_version: str) -> Path:
    """Convert a model and return the OM's path; raises AtcError.

    Leaves `kernel_meta/` and `fusion_result.json` in the current folder, as the real one does.
    """
    from emulator import onnx_graph

    model = onnx_graph.load(options.model)
    onnx_graph.fix_shapes(model, options)
    if options.rounds_weights:
        onnx_graph.round_weights(model.graph, options.mixlist)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = onnx_graph.describe(
        (value for value in model.graph.input if value.name not in weights), options.input_format
    )
    description = om.OmDescription(
        soc_version=options.soc_version,
        toolkit_version=toolkit_version,
        precision_mode=options.precision_mode,
        batch=inputs[0].shape[0] if inputs and inputs[0].shape else 1,
        inputs=inputs,
        outputs=onnx_graph.describe(model.graph.output),
    )
    target = options.output.with_name(f"{options.output.name}.om")
    data = om.encode(options.output.name, description, model.SerializeToString(deterministic=True))
    try:
        Path("kernel_meta").mkdir(exist_ok=True)
        Path("fusion_result.json").write_text("[]\n", "utf-8")
        om.write(target, data)
    except OSError as error:
        raise AtcError("E10022", f"The path [{target}] of [--output] cannot be written: {error}") from error
    return target


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
