"""Steps for tests of the child process; reached by `ChildConfig.steps` and PYTHONPATH."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from npuq.errors import DatasetError
from tasks.steps import Metric, StepContext, StepOutcome


def echo(context: StepContext) -> StepOutcome:
    """Print what is in `params`, write an output, report progress."""
    context.progress(1, 2, "images")
    context.progress(2, 2, "images")
    for line in context.request.params["lines"]:
        sys.stdout.write(f"{line}\n")
    ctypes.CDLL(None).puts(b"a line from native code")
    Path("out.onnx").write_bytes(b"onnx")
    return StepOutcome(
        outputs={"onnx": (Path("out.onnx").absolute(),)},
        metrics={"top1": Metric(value=70.5, unit="percent")},
        facts={"cwd": str(Path.cwd()), "environment": dict(os.environ), "worker": sys.modules["worker"].__file__},
    )


def refuse(context: StepContext) -> StepOutcome:
    """Fail as npuq fails on purpose."""
    raise DatasetError("image x.JPEG cannot be read")


def stumble(context: StepContext) -> StepOutcome:
    """Fail in an unforeseen way."""
    raise ZeroDivisionError("nobody foresaw this")


def unspeakable(context: StepContext) -> StepOutcome:
    """Answer what is not JSON."""
    return StepOutcome(facts={"what": object()})


def hang(context: StepContext) -> StepOutcome:
    """Ignore TERM, start a tool in a group of its own that ignores it too, and never end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ignorant = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    tool = subprocess.Popen([sys.executable, "-c", ignorant], process_group=0)
    sys.stdout.write(f"tool {tool.pid}\n")
    context.progress(1, 10, "images")
    threading.Event().wait()
    raise AssertionError("unreachable")


def wait_for_tool(context: StepContext) -> StepOutcome:
    """Run a tool that does not end, as convert runs ATC."""
    with subprocess.Popen(["sleep", "1000"]):
        context.progress(1, 10, "images")
    raise AssertionError("unreachable")


def crash(context: StepContext) -> StepOutcome:
    """Abort as native code does."""
    sys.stdout.write("EL0004: last words\n")
    os.abort()


def pid(context: StepContext) -> StepOutcome:
    """Tell the process id."""
    return StepOutcome(facts={"pid": os.getpid()})
